# What importing a `.drv` file gives: its first output, with all outputs as attributes.
{ name, drvPath, outputs, paths }:

let
  results = map (output: {
    name = output;
    value = shared // {
      outputName = output;
      outPath = paths.${output};
    };
  }) outputs;

  shared = builtins.listToAttrs results // {
    type = "derivation";
    all = map (result: result.value) results;
    inherit drvPath name;
  };
in
(builtins.head results).value
