builtins.toJSON "\"\\/\n\r\t é"
