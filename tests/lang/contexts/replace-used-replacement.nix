builtins.hasContext (builtins.replaceStrings [ "b" ] [ (builtins.toFile "a" "b") ] "abc")
