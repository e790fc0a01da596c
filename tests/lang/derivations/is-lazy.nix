(derivation { name = "x"; system = "s"; builder = throw "no"; }).name
