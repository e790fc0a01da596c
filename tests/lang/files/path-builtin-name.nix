builtins.path { path = ./files/plain.txt; name = "other"; }
