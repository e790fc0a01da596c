builtins.genericClosure { startSet = [ { key = 1; n = "a"; } { key = 1; n = "b"; } ]; operator = x: [ ]; }
