[ (builtins.concatStringsSep "," [ "a" "b" ]) (builtins.concatStringsSep "," [ ]) (builtins.concatStringsSep "" [ "x" "y" ]) ]
