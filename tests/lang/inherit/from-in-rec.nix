rec { inherit (s) a; s = { a = b; }; b = 3; }.a
