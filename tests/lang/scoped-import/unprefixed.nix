scopedImport { hidden = 6; } ./files/free-variable.nix
