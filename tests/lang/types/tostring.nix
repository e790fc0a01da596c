map toString [ 1 (-1) 1.5 true false null "a" /a [ ] ]
