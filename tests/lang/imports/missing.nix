import ./files/missing.nix
