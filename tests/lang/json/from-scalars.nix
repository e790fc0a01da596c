builtins.fromJSON "[1, -1, 1.5, 1e3, true, false, null, \"a\"]"
