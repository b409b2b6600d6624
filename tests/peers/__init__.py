"""Our side of a wire format against other people's: they share no line with us and no reading of
the standard."""
