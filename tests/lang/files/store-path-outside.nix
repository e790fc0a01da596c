builtins.storePath ./files/plain.txt
