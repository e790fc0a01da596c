throw "in ${builtins.toFile "a" "b"}"
