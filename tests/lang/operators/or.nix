[ (true || throw "lazy") (false || true) (false || false) ]
