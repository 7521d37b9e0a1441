"""Tables of answers and pictures of measurements."""
