[ (baseNameOf /a/b) (baseNameOf /.) ]
