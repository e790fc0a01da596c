[ (1 ? a) (null ? a.b) ]
