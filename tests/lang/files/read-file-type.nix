map builtins.readFileType [ ./files/plain.txt ./files/folder ./files/link ]
