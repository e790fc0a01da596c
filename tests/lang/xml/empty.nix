[ (builtins.toXML [ ]) (builtins.toXML { }) ]
