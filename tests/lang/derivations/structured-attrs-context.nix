let a = derivation { name = "a"; system = "s"; builder = "/b"; }; in (derivation { name = "x"; system = "s"; builder = "/b"; __structuredAttrs = true; deps = { inherit a; }; }).drvPath
