builtins.filterSource (p: t: t != "directory") ./files/folder
