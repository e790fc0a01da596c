"${{ __toString = self: "<${self.x}>"; x = "y"; }}"
