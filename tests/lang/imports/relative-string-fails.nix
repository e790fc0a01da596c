import "files/value.nix"
