({ }: 1) { __toString = 1; zz = 1; outPath = 1; "" = 1; }
