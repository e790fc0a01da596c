let x = 10; in { a = rec { x = 2; }; a.z = x; }
