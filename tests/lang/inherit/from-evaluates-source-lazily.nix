{ inherit (throw "no") a; b = 1; }.b
