let mk = self: { a = 1; b = self.a; }; x = mk x; in x.b
