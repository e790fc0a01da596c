builtins.scopedImport { hidden = 5; } ./files/imports-other.nix
