let d = derivation { name = "x"; system = "s"; builder = "/b"; __structuredAttrs = true; a = 1; b = [ 1 { c = null; } ]; d = 1.5; e = true; }; in [ d.drvPath d.outPath ]
