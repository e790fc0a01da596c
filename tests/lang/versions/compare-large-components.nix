[ (builtins.compareVersions "9999999999" "10000000000") (builtins.compareVersions "2147483647" "2147483648") ]
