"""Numbers from tensors and frames: each module is pure (no network class, no disk, no plots) and importable alone."""
