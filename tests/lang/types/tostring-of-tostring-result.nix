toString { __toString = s: { __toString = t: "deep"; }; }
