builtins.isFunction (x: with { }; y)
