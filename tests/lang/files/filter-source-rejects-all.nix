builtins.filterSource (p: t: false) ./files/folder
