[ http://example.org/a?b=c&d http:x mailto:a@b.c ]
