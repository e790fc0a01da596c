builtins.trace { a = 1; } 3
