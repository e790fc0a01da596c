let builtins = 1; in builtins
