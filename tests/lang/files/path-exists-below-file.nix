builtins.pathExists ./files/plain.txt/x
