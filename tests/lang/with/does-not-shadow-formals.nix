({ a, b ? a }: with { a = 5; }; b) { a = 1; }
