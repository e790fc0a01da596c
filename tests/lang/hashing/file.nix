map (a: builtins.hashFile a ./files/plain.txt) [ "md5" "sha256" ]
