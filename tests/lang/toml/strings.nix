builtins.fromTOML "a = \"\\t\\u00e9\\U0001F600\"\nb = \"\"\"\nx\\\n   y\"\"\"\nc = '''\nz'''"
