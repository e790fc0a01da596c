builtins.length (builtins.attrValues { a = throw "no"; })
