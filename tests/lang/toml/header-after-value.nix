map (text: builtins.fromTOML text) [
  "a = 1 [b]\nc = 2"
  "[t]\na = [1][[t.b]]\nx = {}\t[t.c]"
]
