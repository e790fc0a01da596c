builtins.path { name = "a"; }
