builtins.attrNames (builtins.zipAttrsWith (n: vs: throw "no") [ { a = throw "v"; } ])
