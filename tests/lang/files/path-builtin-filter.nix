builtins.path { path = ./files/folder; filter = p: t: baseNameOf p != "empty"; }
