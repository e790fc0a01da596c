toString { __toString = s: 1; }
