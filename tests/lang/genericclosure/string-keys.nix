map (x: x.key) (builtins.genericClosure { startSet = [ { key = "b"; } { key = "a"; } ]; operator = x: if x.key == "a" then [ { key = "c"; } ] else [ ]; })
