builtins.stringLength (builtins.foldl' (a: b: a + "xy") "" (builtins.genList (x: x) 1000))
