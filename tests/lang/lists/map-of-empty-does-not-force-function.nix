map (throw "not forced") [ ]
