(rec { a = c; __overrides = { c = 3; }; }).c
