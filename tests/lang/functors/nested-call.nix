{ __functor = self: { __functor = s: x: x * 2; }; } 0 4
