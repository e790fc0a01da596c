let d = derivation { name = "x"; system = "s"; builder = "/b"; }; in [ d.type d.name d.outputName ]
