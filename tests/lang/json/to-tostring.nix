builtins.toJSON { __toString = s: "x"; outPath = "y"; }
