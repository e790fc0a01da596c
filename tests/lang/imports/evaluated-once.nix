let a = import ./files/function.nix; in a == import ./files/function.nix
