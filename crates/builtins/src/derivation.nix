# The function `derivation`: everything about the result is lazy, so that the attributes are evaluated only
# when a path is asked for.
attrs@{ outputs ? [ "out" ], ... }:

let
  paths = derivationStrict attrs;

  results = map (output: {
    name = output;
    value = shared // {
      type = "derivation";
      outputName = output;
      outPath = paths.${output};
      inherit (paths) drvPath;
    };
  }) outputs;

  shared = attrs // builtins.listToAttrs results // {
    drvAttrs = attrs;
    all = map (result: result.value) results;
  };
in
(builtins.head results).value
