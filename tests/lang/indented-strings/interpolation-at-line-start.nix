let x = "  y"; in ''
    ${x}
      z
''
