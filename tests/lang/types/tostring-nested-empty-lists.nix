[ (toString [ [ ] ]) (toString [ [ ] [ ] ]) (toString [ "" "a" ]) (toString [ 1 [ ] 2 ]) ]
