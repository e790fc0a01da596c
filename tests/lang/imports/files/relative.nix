{ value = import ./value.nix; }
