let p = { __toString = self: "<${self.n}>"; n = "x"; }; in "${p}"
