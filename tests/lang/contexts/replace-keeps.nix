builtins.hasContext (builtins.replaceStrings [ "/" ] [ "-" ] (builtins.toFile "a" "b"))
