# features: ca-derivations
let d = derivation { name = "x"; system = "s"; builder = "/b"; __contentAddressed = true; outputHashAlgo = "sha256"; outputHashMode = "recursive"; }; in [ d.drvPath d.outPath ]
