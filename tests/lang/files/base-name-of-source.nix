builtins.substring 33 (-1) (baseNameOf "${./files/folder}")
