builtins.length [ true null ]
