builtins.genericClosure { startSet = [ ]; operator = throw "no"; }
