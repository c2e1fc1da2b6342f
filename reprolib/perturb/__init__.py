"""Moving pixels: one loop by gradient (`engine`) under `attacks` and `inversion`; steps of their own in `deepfool` and `pixel`."""
