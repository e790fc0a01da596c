builtins.hasContext (builtins.fromJSON (builtins.toJSON "${builtins.toFile "a" "b"}"))
