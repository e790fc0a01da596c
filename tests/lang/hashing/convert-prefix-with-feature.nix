# features: blake3-hashes
builtins.convertHash { hash = "blake3:0000000000000000000000000000000000000000000000000000000000000000"; toHashFormat = "sri"; }
