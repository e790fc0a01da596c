builtins.fromTOML "[a] [b]"
