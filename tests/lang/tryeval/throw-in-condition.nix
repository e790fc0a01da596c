(builtins.tryEval (if throw "x" then 1 else 2)).success
