let a = derivation { name = "a"; system = "s"; builder = "/b"; outputs = [ "out" "dev" ]; }; in (derivation { name = "b"; system = "s"; builder = "/b"; a = a.dev; }).outPath
