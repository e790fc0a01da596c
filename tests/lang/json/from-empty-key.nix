builtins.fromJSON "{\"\": 1}"
