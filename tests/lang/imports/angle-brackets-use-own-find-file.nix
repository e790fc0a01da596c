let __findFile = path: name: name; in <a/b>
