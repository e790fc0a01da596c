# The right operand of // is evaluated, and has to be a set, before the left one is looked at.
builtins.tryEval ((throw "left") // "no set")
