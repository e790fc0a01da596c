import ./files/empty
