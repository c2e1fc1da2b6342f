"""Block structure: how alike are the layers of standard and robust networks? Cianfarani et al. 2022 (arXiv 2206.09868).

The index of blocks, seed baselines, removals and controls are this project's.
"""
