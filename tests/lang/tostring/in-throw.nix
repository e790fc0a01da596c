throw { __toString = self: "thrown"; }
