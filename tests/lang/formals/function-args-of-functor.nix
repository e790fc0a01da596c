builtins.functionArgs { __functor = self: { a }: a; __functionArgs = { x = true; }; }
