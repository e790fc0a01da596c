builtins.fromJSON "{\"b\": 1, \"a\": {\"c\": []}}"
