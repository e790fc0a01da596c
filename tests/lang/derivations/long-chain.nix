let f = n: if n == 0 then "/b" else derivation { name = "n${toString n}"; system = "s"; builder = f (n - 1); }; in (f 30).outPath
