builtins.getContext (derivation { name = "x"; system = "s"; builder = "/b"; }).drvPath
