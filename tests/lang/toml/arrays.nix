builtins.fromTOML "a = [1, [2, 3], \"x\", {b = 1}]\nb = [\n 1, # c\n 2,\n]"
