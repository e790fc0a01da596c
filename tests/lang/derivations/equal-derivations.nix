derivation { name = "x"; system = "s"; builder = "/b"; } == derivation { name = "x"; system = "s"; builder = "/b"; }
