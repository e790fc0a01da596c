builtins.split "$" "abc"
