let x = "outer"; in rec { ${"x" + ""} = "inner"; y = x; }.y
