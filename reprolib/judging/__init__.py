"""Claims as data, and the verdict on each from tidy rows alone."""
