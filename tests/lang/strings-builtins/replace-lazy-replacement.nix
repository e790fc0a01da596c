builtins.replaceStrings [ "x" "a" ] [ (throw "no") "b" ] "aaa"
