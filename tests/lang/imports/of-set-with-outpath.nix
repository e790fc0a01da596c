import { outPath = ./files/value.nix; }
