let a = 1; in "$$${toString a}"
