let x = builtins.genList (i: i) 3; in [ (builtins.elemAt x 1) (builtins.elemAt x 1) ]
