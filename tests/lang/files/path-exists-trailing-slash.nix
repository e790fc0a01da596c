map builtins.pathExists [ "${toString ./files}/" "${toString ./files/plain.txt}/" "${toString ./files/folder}/." ]
