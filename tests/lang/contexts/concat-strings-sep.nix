builtins.hasContext (builtins.concatStringsSep (builtins.toFile "a" "b") [ "x" "y" ])
