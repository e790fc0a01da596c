builtins.findFile [ { prefix = "p"; path = ./files; } ] "q/value.nix"
