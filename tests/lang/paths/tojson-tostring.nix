builtins.toJSON (toString /a)
