# Chains go from right to left, however they are grouped.
[
  (builtins.tryEval ("no set" // (throw "right"))).success
  (builtins.tryEval ((1 // (throw "middle")) // { }) ).success
  (builtins.tryEval (1 // ((throw "middle") // { }))).success
]
