let x = { }; in { inherit x; x.a = 2; }
