builtins.toXML [ 1 1.5 true null "a" /a ]
