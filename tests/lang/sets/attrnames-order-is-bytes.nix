builtins.attrNames { a = 1; B = 1; "é" = 1; "1" = 1; _ = 1; "-" = 1; aa = 1; }
