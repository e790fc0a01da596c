"${./files/missing}"
