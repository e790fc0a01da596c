baseNameOf "${./files/folder/copy.txt}" == baseNameOf "${./files/plain.txt}"
