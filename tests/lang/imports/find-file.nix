builtins.baseNameOf (builtins.findFile [ { prefix = "p"; path = ./files; } ] "p/value.nix")
