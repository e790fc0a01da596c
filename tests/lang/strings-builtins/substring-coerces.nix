builtins.substring 0 1 { outPath = "/x"; }
