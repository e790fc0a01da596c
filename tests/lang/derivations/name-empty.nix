(derivation { name = ""; system = "s"; builder = "/b"; }).drvPath
