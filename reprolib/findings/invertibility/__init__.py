"""Invertibility: is the representation of a robust network approximately invertible? Engstrom et al. 2019 (arXiv 1906.00945).

Inverses are compared at the same relative distance in representation space (d_rel, in units of each network's own
random-pair median); matching, judges and controls are this project's.
"""
