let __nixPath = [ { prefix = "mine"; path = ./files; } ]; in import <mine/value.nix>
