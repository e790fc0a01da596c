(derivation { name = "x"; system = "s"; builder = "/b"; args = [ "-c" "echo $out" "" ]; }).drvPath
