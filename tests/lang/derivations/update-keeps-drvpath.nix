let d = derivation { name = "x"; system = "s"; builder = "/b"; }; in (d // { name = "y"; }).drvPath == d.drvPath
