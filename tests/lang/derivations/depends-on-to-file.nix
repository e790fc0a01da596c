(derivation { name = "b"; system = "s"; builder = builtins.toFile "builder.sh" "echo"; }).drvPath
