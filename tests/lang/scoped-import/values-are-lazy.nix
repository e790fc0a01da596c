builtins.scopedImport { hidden = 1; other = throw "no"; } ./files/free-variable.nix
