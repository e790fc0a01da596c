builtins.scopedImport { } ./files/value.nix
