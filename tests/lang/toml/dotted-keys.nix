builtins.fromTOML "a.b.c = 1\na.b.d = 2\n\"q\".'r' = 3"
