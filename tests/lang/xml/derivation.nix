builtins.toXML (derivation { name = "x"; system = "s"; builder = "/b"; })
