"${./files/folder}"
