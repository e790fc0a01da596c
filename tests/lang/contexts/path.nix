builtins.attrValues (builtins.getContext "${./files/plain.txt}")
