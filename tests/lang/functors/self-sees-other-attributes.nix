let c = { __functor = self: x: [ self.name x ]; name = "c"; }; in c 1
