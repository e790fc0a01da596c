[ (builtins.substring 1 2 "abcd") (builtins.substring 0 0 "abc") (builtins.substring 2 10 "abc") (builtins.substring 5 1 "abc") (builtins.substring 1 (-1) "abc") ]
