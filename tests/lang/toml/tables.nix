builtins.fromTOML "x = 1\n[a]\ny = 2\n[a.b]\nz = 3\n[c.\"d e\"]"
