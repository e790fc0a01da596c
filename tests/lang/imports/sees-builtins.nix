(import ./files/uses-builtins.nix)
