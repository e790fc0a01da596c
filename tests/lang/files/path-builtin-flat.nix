builtins.path { path = ./files/plain.txt; recursive = false; }
