toString { __toString = s: "a"; outPath = "b"; }
