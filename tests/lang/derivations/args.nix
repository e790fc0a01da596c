(derivation { name = "x"; system = "s"; builder = "/b"; args = [ "-c" "echo" 1 /bin ]; }).args
