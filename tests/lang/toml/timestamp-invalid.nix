# features: parse-toml-timestamps
builtins.fromTOML "a = 1979-02-30"
