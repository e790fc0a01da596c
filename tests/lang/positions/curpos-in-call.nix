let here = __curPos;
  f = x: __curPos;
in [ here.line (f 1).line (f 2).column ]
