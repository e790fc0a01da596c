map builtins.typeOf [ (x: x) builtins.add (builtins.add 1) ]
