"""Which cue decides, shape or texture, and what is left when one of them is taken away.

Source: Chen, Agarwal, Nguyen 2020, arXiv 2006.09373; stimuli and metric: Geirhos et al. 2019 (ICLR).
"""
