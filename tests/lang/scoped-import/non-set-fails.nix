scopedImport 1 ./files/free-variable.nix
