{ a = 1; }.${builtins.toFile "a" "b"}
