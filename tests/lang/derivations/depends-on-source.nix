(derivation { name = "b"; system = "s"; builder = "/b"; src = ./files/plain.txt; }).drvPath
