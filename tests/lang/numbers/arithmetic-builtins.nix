[ (builtins.add 1 2) (builtins.sub 1 2) (builtins.mul 2 3) (builtins.div 7 2) (builtins.add 1 1.5) (builtins.div 7 2.0) ]
