builtins.intersectAttrs { a5 = 0; zz = 0; } (builtins.listToAttrs (builtins.genList (i: { name = "a${toString i}"; value = i; }) 100))
