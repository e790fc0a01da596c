builtins.traceVerbose (throw "not forced") 4
