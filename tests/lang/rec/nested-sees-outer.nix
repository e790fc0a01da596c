rec { a = 1; b = rec { c = a; a = 2; }; }
