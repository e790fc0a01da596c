builtins.scopedImport { map = 1; } ./files/uses-map.nix
