{ a = throw "inner"; }.a or 1
