builtins.toJSON { B = 1; a = 2; "é" = 3; "1" = 4; }
