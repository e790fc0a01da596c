let d = derivation { name = "x"; system = "s"; builder = "/b"; outputs = [ "bin" "out" ]; }; in [ "${d}" "${d.out}" "${d.bin}" ]
