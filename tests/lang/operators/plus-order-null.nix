# A left operand that is no number, string or path becomes a string before the right one is evaluated.
builtins.tryEval (null + (throw "right"))
