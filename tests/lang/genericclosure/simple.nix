builtins.genericClosure { startSet = [ { key = 0; } ]; operator = x: if x.key < 3 then [ { key = x.key + 1; } ] else [ ]; }
