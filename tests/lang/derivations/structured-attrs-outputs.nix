(derivation { name = "x"; system = "s"; builder = "/b"; __structuredAttrs = true; outputs = [ "out" "dev" ]; args = [ "x" ]; }).drvPath
