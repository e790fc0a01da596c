builtins.toXML [ (throw "forced") ]
