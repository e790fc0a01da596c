let
  f = x: [ x ];
  set = { l = f 1; m = set.l; };
  inherit (set) l;
in
{
  a = set.l;
  b = { l = set.l; };
  c = { inherit (set) l; };
  d = [ set.l set.l l l ];
  e = { inherit l; };
  f = set;
}
