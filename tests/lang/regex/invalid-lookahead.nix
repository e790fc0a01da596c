builtins.match "(?!a)" "a"
