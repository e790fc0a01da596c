builtins.attrNames (derivation { name = "x"; system = "s"; builder = "/b"; })
