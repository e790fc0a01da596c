map builtins.pathExists [ ./files/plain.txt ./files/missing ./files/folder ./files/broken-link (toString ./files/plain.txt) ]
