builtins.split "([ac])" "aac"
