let f = x: (derivation ({ name = "x"; system = "s"; builder = "/b"; } // x)).drvPath; in [ (f { __ignoreNulls = true; a = null; }) (f { __ignoreNulls = false; a = null; }) (f { a = null; }) ]
