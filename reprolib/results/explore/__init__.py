"""Explorers for a person at a Jupyter front end: they redraw precomputed rows and run no network; headless they print one line."""

from reprolib.results.explore.invertibility import invertibility

__all__ = ["invertibility"]
