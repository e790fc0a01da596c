"x" + /does-not-exist-at-all
