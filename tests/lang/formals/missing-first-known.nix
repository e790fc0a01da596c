({ zz, __functor, aa, type }: 1) { }
