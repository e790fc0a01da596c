let a = derivation { name = "a"; system = "s"; builder = "/b"; }; in (derivation { name = "b"; system = "s"; builder = "/b"; a = builtins.unsafeDiscardOutputDependency a.drvPath; }).drvPath
