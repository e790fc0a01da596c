builtins.break 6
