let s = { x = "é€😀"; a = 1; }; in (builtins.unsafeGetAttrPos "a" s).column
