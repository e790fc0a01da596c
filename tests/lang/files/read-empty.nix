builtins.readFile ./files/folder/empty
