builtins.stringLength "é€"
