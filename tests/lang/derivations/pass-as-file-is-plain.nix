(derivation { name = "x"; system = "s"; builder = "/b"; passAsFile = [ "a" ]; a = "text"; }).drvPath
