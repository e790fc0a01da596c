builtins.trace "message" 2
