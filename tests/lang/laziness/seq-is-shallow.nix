builtins.seq { a = throw "no"; } 2
