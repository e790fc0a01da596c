"${./files/plain.txt}"
