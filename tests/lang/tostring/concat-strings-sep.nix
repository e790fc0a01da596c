builtins.concatStringsSep "," [ { __toString = self: "a"; } { outPath = "/b"; } ]
