let x = 10; in { a = { y = 1; }; a = rec { x = 2; z = x; }; }
