let s = { ${"a" + "b"} = 1; "c d" = 2; };
in map (n: (builtins.unsafeGetAttrPos n s).column) [ "ab" "c d" ]
