builtins.compareVersions "1.02" "1.2"
