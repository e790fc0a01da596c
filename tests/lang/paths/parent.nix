baseNameOf (dirOf ../a/b)
