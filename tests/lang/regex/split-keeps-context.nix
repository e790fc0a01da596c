builtins.hasContext (builtins.elemAt (builtins.split "x" "${builtins.toFile "a" "b"}") 0)
