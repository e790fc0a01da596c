builtins.hasContext (builtins.toXML "${builtins.toFile "a" "b"}")
