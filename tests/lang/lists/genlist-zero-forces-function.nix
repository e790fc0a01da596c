builtins.genList (throw "no") 0
