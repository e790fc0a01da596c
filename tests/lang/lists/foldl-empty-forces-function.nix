builtins.foldl' (throw "function") 7 [ ]
