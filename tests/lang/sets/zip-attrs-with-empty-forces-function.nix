builtins.zipAttrsWith (throw "no") [ ]
