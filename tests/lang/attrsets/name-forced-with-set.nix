(let n = throw "name"; in { ${n} = 1; a = 2; }).a
