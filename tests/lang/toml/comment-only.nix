builtins.fromTOML "# nothing"
