let
  set = { outPath = "set"; };
  text = { __toString = s: "text"; };
in
[
  (set + "/x")
  (text + set + text)
  (set + /path)
  (builtins.tryEval (1 + (throw "right"))).success
  (builtins.tryEval ((throw "left") + (abort "right"))).success
]
