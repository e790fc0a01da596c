let f = builtins.toFile "x" "y"; in f == builtins.unsafeDiscardStringContext f
