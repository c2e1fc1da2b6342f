"""Moving pixels by gradient: one loop (`engine`) under the attacks (`attacks`) and the inversions (`inversion`)."""
