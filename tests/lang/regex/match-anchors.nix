[ (builtins.match "^a$" "a") (builtins.match "a^b" "ab") ]
