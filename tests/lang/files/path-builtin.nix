builtins.path { path = ./files/plain.txt; }
