builtins.getContext (builtins.unsafeDiscardOutputDependency (derivation { name = "x"; system = "s"; builder = "/b"; }).drvPath)
