builtins.baseNameOf (builtins.findFile [ { prefix = ""; path = ./files; } ] "value.nix")
