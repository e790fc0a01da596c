let x = "b"; in [ /a/${x} 1 ]
