({ a, b }: b) { a = throw "no"; b = 1; }
