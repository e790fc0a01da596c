throw { outPath = "/x"; }
