with builtins.trace "once" { a = 1; }; a + a
