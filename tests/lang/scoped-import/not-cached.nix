[ (scopedImport { hidden = 1; } ./files/free-variable.nix) (scopedImport { hidden = 2; } ./files/free-variable.nix) ]
