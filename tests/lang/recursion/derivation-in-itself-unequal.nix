let
  x = { type = "derivation"; outPath = x; };
  y = { type = "derivation"; outPath = y; };
in
x == y
