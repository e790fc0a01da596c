builtins.split "b*" "abbc"
