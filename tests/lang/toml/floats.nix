builtins.fromTOML "a = 1e3\nb = -0.5\nc = inf\nd = 6.02_2e1"
