let p = builtins.unsafeDiscardOutputDependency (derivation { name = "x"; system = "s"; builder = "/b"; }).drvPath; in builtins.getContext (builtins.addDrvOutputDependencies p)
