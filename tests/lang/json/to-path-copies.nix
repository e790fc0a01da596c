builtins.toJSON ./files/plain.txt
