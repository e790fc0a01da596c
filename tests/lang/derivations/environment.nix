(derivation { name = "x"; system = "s"; builder = "/b"; a = 1; b = true; c = false; d = null; e = [ 1 "two" [ 3 ] ]; f = 1.5; g = ""; }).drvPath
