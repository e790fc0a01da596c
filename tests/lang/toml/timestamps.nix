# features: parse-toml-timestamps
builtins.fromTOML "a = 1979-05-27T07:32:00Z\nb = 1979-05-27 07:32:00.5\nc = 1979-05-27\nd = 07:32:00\ne = 1979-05-27t00:00:00.123456+09:30"
