toString { outPath = "/x"; }
