(import ./files/relative.nix).value
