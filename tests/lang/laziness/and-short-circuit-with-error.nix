false && (throw "no")
