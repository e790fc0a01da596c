# The function `derivation`: everything about the result is lazy, so that the attributes are evaluated only
# when a path is asked for.
drvAttrs@{ outputs ? [ "out" ], ... }:

let
  paths = derivationStrict drvAttrs;

  results = map (output: {
    name = output;
    value = shared // {
      type = "derivation";
      outputName = output;
      outPath = paths.${output};
      inherit (paths) drvPath;
    };
  }) outputs;

  shared = drvAttrs // builtins.listToAttrs results // {
    inherit drvAttrs;
    all = map (result: result.value) results;
  };
in
(builtins.head results).value
