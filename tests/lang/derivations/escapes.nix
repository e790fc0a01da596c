(derivation { name = "x"; system = "s"; builder = "/b"; a = "\"\\\n\r\t\${}é"; }).drvPath
