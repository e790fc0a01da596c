builtins.readFile ./files/plain.txt
