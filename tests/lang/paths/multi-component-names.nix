/a.b/c+d/e-f/_g
