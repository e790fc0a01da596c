(derivation { name = "x"; system = "s"; builder = "/b"; a = { b = 1; }; }).drvPath
