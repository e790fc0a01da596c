[ (true && false) (true && true) (false && throw "lazy") ]
