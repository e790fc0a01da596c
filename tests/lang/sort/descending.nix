builtins.sort (a: b: b < a) [ 1 2 3 ]
