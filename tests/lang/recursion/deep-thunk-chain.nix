let x = builtins.foldl' (a: b: a + 1) 0 (builtins.genList (x: x) 5000); in x
