map (x: x.key) (builtins.genericClosure { startSet = [ { key = [ 1 "a" ]; } { key = [ 1 "a" ]; } { key = [ 2 ]; } ]; operator = x: [ ]; })
