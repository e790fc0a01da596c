[ (__add 1 2) (__length [ ]) (__typeOf __currentTime) ]
