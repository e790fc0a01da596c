map builtins.typeOf [ 1 1.5 "a" /a true null [ ] { } (x: x) ]
