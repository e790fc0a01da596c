import <lang/imports/files/value.nix>
