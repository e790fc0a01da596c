let n = "x"; in { a = { ${n} = 1; }; a.y = 2; }
