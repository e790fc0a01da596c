builtins.sort { __functor = self: a: b: a < b; } [ 3 1 2 ]
