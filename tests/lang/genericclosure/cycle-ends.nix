map (x: x.key) (builtins.genericClosure { startSet = [ { key = 0; } ]; operator = x: [ { key = (x.key + 2) - ((x.key + 2) / 5) * 5; } ]; })
