let x = 1; s = { inherit x; inherit ({ y = 2; }) y; };
in map (n: (builtins.unsafeGetAttrPos n s).column) [ "x" "y" ]
