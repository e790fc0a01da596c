(rec { a = { x = b; }; b = { y = a; z = 1; }; }).a.x.z
