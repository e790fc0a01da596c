let f = x: { y = x; }; in (f 3).y
