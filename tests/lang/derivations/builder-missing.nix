(derivation { name = "x"; system = "s"; }).drvPath
