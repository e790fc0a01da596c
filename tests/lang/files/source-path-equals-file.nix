"${./files/plain.txt}" == builtins.path { path = ./files/plain.txt; }
