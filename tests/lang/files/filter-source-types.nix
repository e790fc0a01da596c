builtins.filterSource (p: t: builtins.elem t [ "regular" "directory" "symlink" ]) ./files/folder
