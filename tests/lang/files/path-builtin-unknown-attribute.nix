builtins.path { path = ./files/plain.txt; other = 1; }
