(derivation { name = "x"; system = "s"; builder = "/b"; a = placeholder "out"; }).drvPath
