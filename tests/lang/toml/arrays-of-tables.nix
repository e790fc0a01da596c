builtins.fromTOML "[[a]]\nx = 1\n[[a]]\nx = 2\n[a.b]\ny = 3"
