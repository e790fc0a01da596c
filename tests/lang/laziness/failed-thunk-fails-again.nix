let x = throw "again"; t = builtins.tryEval x; in [ t.success (builtins.tryEval x).success ]
