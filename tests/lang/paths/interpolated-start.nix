let x = "c"; in /a/b${x}d
