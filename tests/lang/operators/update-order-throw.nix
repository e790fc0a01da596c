builtins.tryEval ((throw "left") // (abort "the right one is first"))
