<does-not-exist-in-nix-path>
