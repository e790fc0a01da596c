let a = derivation { name = "a"; system = "s"; builder = "/b"; }; b = derivation { name = "b"; system = "s"; builder = "/b"; inherit a; }; in [ b.drvPath b.outPath ]
