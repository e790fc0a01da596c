let "a b" = 1; "c" = 2; in c
