# Large sets are mapped without making a thunk for each attribute; nothing of that may be seen.
let
  large = builtins.listToAttrs (
    builtins.genList (i: {
      name = "n${toString i}";
      value = i;
    }) 600
  );
  mapped = builtins.mapAttrs (name: value: "${name}=${toString value}") large;
  twice = builtins.mapAttrs (name: value: value + "!") mapped;
  layered = builtins.mapAttrs (name: value: "${name}:${value}") (
    mapped
    // {
      n5 = "five";
      extra = "more";
    }
  );
  partial = builtins.mapAttrs (name: value: if value == 7 then throw "seven" else value) large;
in
[
  mapped.n0
  twice.n599
  layered.n5
  layered.n6
  layered.extra
  (builtins.length (builtins.attrNames layered))
  (builtins.length (builtins.attrValues twice))
  (builtins.unsafeGetAttrPos "n5" mapped)
  (removeAttrs mapped [ "n1" ] ? n1)
  (removeAttrs mapped [ "n1" ]).n2
  (builtins.attrNames (builtins.intersectAttrs {
    n3 = 1;
    n700 = 1;
  } twice))
  (partial.n8 + (if (builtins.tryEval partial.n7).success then 0 else 1))
  (mapped == builtins.mapAttrs (n: v: v) mapped)
  (builtins.mapAttrs (n: v: v) large == large)
]
