let l = builtins.genList (i: { k = i - (i / 7) * 7; n = i; }) 50; in map (x: x.n) (builtins.sort (a: b: a.k < b.k) l)
