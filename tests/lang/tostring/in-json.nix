builtins.toJSON { __toString = self: "a"; b = 1; }
