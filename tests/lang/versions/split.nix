map builtins.splitVersion [ "1.2.3" "1.2pre3" "" "1..2" "-1-" "a1b22" "1.2-rc3+x" ]
