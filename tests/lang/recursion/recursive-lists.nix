let l = [ 1 ] ++ map (x: x + 1) (if builtins.length [ ] == 0 then [ 1 2 ] else l); in l
