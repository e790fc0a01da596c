let
  set = { g = (y: y) (x: x); };
in
builtins.seq set [
  ([ set.g ] == [ set.g ])
  ({ a = set.g; } == { a = set.g; })
  (let inherit (set) g; in [ g ] == [ g ])
  (let inherit (set) g; in [ g ] == [ set.g ])
]
