let d = derivation { name = "x"; system = "s"; builder = "/b"; outputs = [ "out" "dev" ]; }; in builtins.getContext "${d}${d.dev}"
