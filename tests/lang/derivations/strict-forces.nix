derivationStrict { name = "x"; system = "s"; builder = throw "forced"; }
