builtins.toFile "name" "contents"
