"""Explorers for a person at a Jupyter front end: they redraw precomputed rows and run no network; headless they print one line."""

from reprolib.results.explore.block_structure import block_structure
from reprolib.results.explore.invertibility import invertibility

__all__ = ["block_structure", "invertibility"]
