toString { outPath = { outPath = "/x"; }; }
