builtins.scopedImport { hidden = 5; } ./files/free-variable.nix
