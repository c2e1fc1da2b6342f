"""Networks with the normaliser inside, their named layers, and the files they are kept in."""
