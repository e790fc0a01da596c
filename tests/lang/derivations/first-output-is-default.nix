(derivation { name = "x"; system = "s"; builder = "/b"; outputs = [ "dev" "out" ]; }).outputName
