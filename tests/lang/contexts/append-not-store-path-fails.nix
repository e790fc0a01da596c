builtins.appendContext "a" { "/a" = { path = true; }; }
