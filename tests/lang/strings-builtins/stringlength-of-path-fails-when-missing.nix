builtins.stringLength /does-not-exist-at-all
