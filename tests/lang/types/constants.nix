[ builtins.true builtins.false builtins.null builtins.langVersion builtins.nixVersion builtins.storeDir ]
