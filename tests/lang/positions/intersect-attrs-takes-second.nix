(builtins.unsafeGetAttrPos "a" (builtins.intersectAttrs { a = 1; } { z = 0; a = 2; })).column
