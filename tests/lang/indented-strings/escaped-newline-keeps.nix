''
    a''\n    b
    c
''
