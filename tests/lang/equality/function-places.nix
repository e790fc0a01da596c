# Inside lists and sets, a function equals itself where it is the same place in memory: a variable is, wherever it is
# used; what is selected, returned or otherwise evaluated has a place of its own each time that is written down.
let
  f = x: x;
  g = y: (x: x);
  id = x: x;
  s = { inherit f; };
  i = { inherit (s) f; };
  u = s // { other = 1; };
  l = [ f ];
  add = builtins.add;
  p = add 1;
  m = builtins.mapAttrs (n: v: v) { a = f; };
  v = f;
  w = s.f;
  ways = {
    w00 = f;
    w01 = s.f;
    w02 = i.f;
    w03 = (id f);
    w04 = (builtins.head l);
    w05 = (g 1);
    w06 = builtins.add;
    w07 = add;
    w08 = map;
    w09 = (add 1);
    w10 = p;
    w11 = m.a;
    w12 = (builtins.elemAt (map (x: x) l) 0);
    w13 = (let z = f; in z);
    w14 = (if true then f else 1);
    w15 = (with s; f);
    w16 = v;
    w17 = w;
    w18 = u.f;
  };
  names = builtins.attrNames ways;
in
{
  # Which of them are the same, as functions of what they are put into.
  variables = builtins.concatMap (a: map (b: "${a} ${b}") (builtins.filter (b: [ ways.${a} ] == [ ways.${b} ]) names)) names;
  written = [
    ([ f ] == [ f ])
    ([ s.f ] == [ s.f ])
    ([ i.f ] == [ i.f ])
    ([ (id f) ] == [ (id f) ])
    ([ (builtins.head l) ] == [ (builtins.head l) ])
    ([ (g 1) ] == [ (g 1) ])
    ([ builtins.add ] == [ builtins.add ])
    ([ add ] == [ add ])
    ([ map ] == [ map ])
    ([ (add 1) ] == [ (add 1) ])
    ([ p ] == [ p ])
    ([ m.a ] == [ m.a ])
    ([ (builtins.elemAt (map (x: x) l) 0) ] == [ (builtins.elemAt (map (x: x) l) 0) ])
    ([ (let z = f; in z) ] == [ (let z = f; in z) ])
    ([ (if true then f else 1) ] == [ (if true then f else 1) ])
    ([ (with s; f) ] == [ (with s; f) ])
    ([ v ] == [ v ])
    ([ w ] == [ w ])
    ([ u.f ] == [ u.f ])
    ([ f ] == [ f ])
    ([ f ] == [ s.f ])
    ([ f ] == [ i.f ])
    ([ f ] == [ (id f) ])
    ([ f ] == [ (builtins.head l) ])
    ([ f ] == [ (g 1) ])
    ([ f ] == [ builtins.add ])
    ([ f ] == [ add ])
    ([ f ] == [ map ])
    ([ f ] == [ (add 1) ])
    ([ f ] == [ p ])
    ([ f ] == [ m.a ])
    ([ f ] == [ (builtins.elemAt (map (x: x) l) 0) ])
    ([ f ] == [ (let z = f; in z) ])
    ([ f ] == [ (if true then f else 1) ])
    ([ f ] == [ (with s; f) ])
    ([ f ] == [ v ])
    ([ f ] == [ w ])
    ([ f ] == [ u.f ])
  ];
  attributes = [
    ({ a = f; } == { a = f; })
    ({ a = s.f; } == { a = f; })
    ({ a = i.f; } == { a = f; })
    ({ a = (id f); } == { a = f; })
    ({ a = (builtins.head l); } == { a = f; })
    ({ a = (g 1); } == { a = f; })
    ({ a = builtins.add; } == { a = f; })
    ({ a = add; } == { a = f; })
    ({ a = map; } == { a = f; })
    ({ a = (add 1); } == { a = f; })
    ({ a = p; } == { a = f; })
    ({ a = m.a; } == { a = f; })
    ({ a = (builtins.elemAt (map (x: x) l) 0); } == { a = f; })
    ({ a = (let z = f; in z); } == { a = f; })
    ({ a = (if true then f else 1); } == { a = f; })
    ({ a = (with s; f); } == { a = f; })
    ({ a = v; } == { a = f; })
    ({ a = w; } == { a = f; })
    ({ a = u.f; } == { a = f; })
  ];
  elem = [
    (builtins.elem f l)
    (builtins.elem s.f l)
    (builtins.elem i.f l)
    (builtins.elem (id f) l)
    (builtins.elem (builtins.head l) l)
    (builtins.elem (g 1) l)
    (builtins.elem builtins.add l)
    (builtins.elem add l)
    (builtins.elem map l)
    (builtins.elem (add 1) l)
    (builtins.elem p l)
    (builtins.elem m.a l)
    (builtins.elem (builtins.elemAt (map (x: x) l) 0) l)
    (builtins.elem (let z = f; in z) l)
    (builtins.elem (if true then f else 1) l)
    (builtins.elem (with s; f) l)
    (builtins.elem v l)
    (builtins.elem w l)
    (builtins.elem u.f l)
  ];
  whole = {
    set = s == s;
    updated = s == removeAttrs u [ "other" ];
    inherited = s == i;
    mapped = m == m;
    mappedAgain = builtins.mapAttrs (n: v: v) s == builtins.mapAttrs (n: v: v) s;
    copied = id s == s;
    lists = [ (id l) ] == [ l ];
    joined = l ++ [ f ] == [ f f ];
    reversed = builtins.genList (n: builtins.elemAt l n) 1 == l;
    filtered = builtins.filter (x: true) l == l;
    values = builtins.attrValues s == l;
    made = builtins.listToAttrs [ { name = "f"; value = f; } ] == s;
    default = ({ z ? f }: [ z ]) { } == l;
    passed = ((a: b: [ a ] == [ b ]) f f);
    passedSelected = ((a: b: [ a ] == [ b ]) s.f s.f);
    partial = [ (add 1) ] == [ (add 1) ];
    direct = f == f;
  };
}
