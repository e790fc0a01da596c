map import [ ./files/value.nix ./files/value.nix ]
