/a + "${builtins.toFile "x" ""}"
