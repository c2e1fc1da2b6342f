"""The three simplicity biases: smoother patterns, lower-level concepts, fewer kinds of input.

Source: Chen, Agarwal, Nguyen 2020, arXiv 2006.09373; dissection: Bau et al. 2017, arXiv 1704.05796.
"""
