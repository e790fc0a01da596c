builtins.split "(a|ab)" "abab"
