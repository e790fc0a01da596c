map builtins.parseDrvName [ "nix-0.12pre12876" "a-b-c-1.2" "nix" "nix-" "-1" "x--1" "a-2b-3" "name-é" ]
