[ (builtins.all (x: x) [ ]) (builtins.any (x: x) [ ]) (builtins.all (x: x > 0) [ 1 0 ]) (builtins.any (x: x > 0) [ 0 1 ]) ]
