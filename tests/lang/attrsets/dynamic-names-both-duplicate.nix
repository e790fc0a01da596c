let n = "a"; m = "a"; in { ${n} = 1; ${m} = 2; }
