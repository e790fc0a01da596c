builtins.filterSource (p: t: 1) ./files/folder
