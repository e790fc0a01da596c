[ (builtins.lessThan 1 2) (builtins.lessThan 2 1.5) ]
