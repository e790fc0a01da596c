builtins.foldl' (a: b: b) (throw "initial is not forced") [ 1 2 ]
