let s = {
  a = 1;

    b = 2;
}; in map (n: (builtins.unsafeGetAttrPos n s).line * 100 + (builtins.unsafeGetAttrPos n s).column) [ "a" "b" ]
