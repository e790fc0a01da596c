builtins.path { path = ./files/plain.txt; recursive = false; sha256 = builtins.hashFile "sha256" ./files/plain.txt; }
