rec {
  # Lists without end, as pairs of a head and a tail.
  from = n: { head = n; tail = from (n + 1); };
  map' = f: list: { head = f list.head; tail = map' f list.tail; };
  take = n: list: if n == 0 then [ ] else [ list.head ] ++ take (n - 1) list.tail;

  join = separator: list: builtins.concatStringsSep separator (map toString list);
}
