import ./files/folder
