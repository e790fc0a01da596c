let s = { a.b.c = 1; }; in [ (builtins.unsafeGetAttrPos "a" s).column (builtins.unsafeGetAttrPos "b" s.a).column ]
