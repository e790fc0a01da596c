import ./files/function.nix { a = 1; }
