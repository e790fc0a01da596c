let or = 5; f = x: x; in 1
