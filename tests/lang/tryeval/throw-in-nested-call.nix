let f = x: throw "x"; in (builtins.tryEval (f 1 + 2)).success
