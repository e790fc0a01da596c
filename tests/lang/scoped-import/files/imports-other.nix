import ./free-variable.nix
