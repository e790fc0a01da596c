let a = b.c.d; b = { }; in 1
