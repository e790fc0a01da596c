let x = { __functor = self: self; }; in x 1
