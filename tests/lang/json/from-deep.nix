let n = 100; r = s: builtins.concatStringsSep "" (builtins.genList (_: s) n); depth = v: if v == [ ] then 1 else 1 + depth (builtins.head v); in depth (builtins.fromJSON (r "[" + r "]"))
