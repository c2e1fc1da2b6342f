"""What all figures share: the house style, pages of pictures, how rows are read for drawing, the forest of verdicts."""
