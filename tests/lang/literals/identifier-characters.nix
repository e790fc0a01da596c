let a_b = 1; a-b = 2; a' = 3; _1 = 4; in [ a_b a-b a' _1 ]
