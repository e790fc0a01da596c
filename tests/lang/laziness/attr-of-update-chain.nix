({ a = throw "a"; } // { b = 1; } // { c = throw "c"; }).b
