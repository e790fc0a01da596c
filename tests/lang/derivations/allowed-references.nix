(derivation { name = "x"; system = "s"; builder = "/b"; allowedReferences = [ "out" ]; }).drvPath
