''
  ${''
      inner
    ''}outer
''
