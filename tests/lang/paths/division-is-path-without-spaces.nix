let a = 4; b = 2; in builtins.typeOf (a/b)
