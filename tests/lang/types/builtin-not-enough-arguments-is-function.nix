builtins.typeOf (builtins.substring 0)
