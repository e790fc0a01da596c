builtins.hasContext (builtins.readFile ./files/plain.txt)
