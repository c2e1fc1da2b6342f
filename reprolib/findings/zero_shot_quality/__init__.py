"""Raw zero-shot quality: what networks that never saw a class make of its images, and whether that goes with attacks."""
