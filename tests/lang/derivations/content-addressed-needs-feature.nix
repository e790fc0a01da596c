(derivation { name = "x"; system = "s"; builder = "/b"; __contentAddressed = true; }).drvPath
