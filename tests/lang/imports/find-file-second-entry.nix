builtins.baseNameOf (builtins.findFile [ { path = ./files/empty; prefix = ""; } { path = ./files; prefix = ""; } ] "value.nix")
