with { toString = 1; }; builtins.typeOf toString
