let f = s: (derivation { name = "x"; system = s; builder = "/b"; }).outPath; in f "a" == f "b"
