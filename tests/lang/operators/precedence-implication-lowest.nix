true && false -> false || false
