builtins.tryEval <does-not-exist-anywhere>
