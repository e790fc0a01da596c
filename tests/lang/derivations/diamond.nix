let d = n: i: derivation { name = n; system = "s"; builder = "/b"; inherit i; }; a = d "a" [ ]; b = d "b" [ a ]; c = d "c" [ a ]; in (d "d" [ b c ]).drvPath
