builtins.match "(.*)(a*)" "baa"
