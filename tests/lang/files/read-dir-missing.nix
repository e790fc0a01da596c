builtins.readDir ./files/missing
