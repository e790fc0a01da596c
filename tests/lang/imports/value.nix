import ./files/value.nix
