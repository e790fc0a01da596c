[ (builtins.replaceStrings [ "b" "" ] [ "1" "." ] "abc") (builtins.replaceStrings [ "" "b" ] [ "." "1" ] "abc") ]
