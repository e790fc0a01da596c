# A short tour: `nivis instantiate --dry-run examples/tour` prints the .drv path of what this evaluates to.
let
  # Other files are imported, once each.
  lib = import ./lib.nix;

  # Nothing is evaluated before it is needed: this list never ends, and only its beginning is looked at.
  numbers = lib.from 1;
  squares = lib.take 5 (lib.map' (n: n * n) numbers);

  # Nor is this ever evaluated.
  unused = throw "nobody needs this";

  # A string remembers what of the store it refers to: this one refers to the copy of a file in this folder …
  script = "${./greet.sh}";

  # … and this one to the result of another derivation.
  greeting = derivation {
    name = "greeting";
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ "-c" "echo ${lib.join " " squares} > $out" ];
  };
in
derivation {
  name = "tour";
  system = "x86_64-linux";
  builder = "/bin/sh";
  args = [ script greeting ];
  # The contexts of both strings become inputs of the derivation.
  message = if squares == [ 1 4 9 16 25 ] then "read ${greeting}" else unused;
}
