builtins.warn "message" 5
