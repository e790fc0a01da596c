builtins.hasContext (toString [ "a" (builtins.toFile "a" "b") ])
