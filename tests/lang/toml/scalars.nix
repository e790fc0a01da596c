builtins.fromTOML "a = 1\nb = 1.5\nc = true\nd = \"x\"\ne = 'y\\n'"
