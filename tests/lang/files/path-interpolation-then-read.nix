let n = "plain"; in builtins.readFile ./files/${n}.txt
