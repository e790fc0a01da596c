let hidden = 1; in import ./files/free-variable.nix
