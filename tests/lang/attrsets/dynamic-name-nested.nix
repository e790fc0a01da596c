let n = "a"; in { x.${n}.y = 1; }
