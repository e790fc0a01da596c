[ (builtins.match "a{2}" "aa") (builtins.match "a{2,}" "a") (builtins.match "a{1,3}" "aaa") (builtins.match "a{0}" "") ]
