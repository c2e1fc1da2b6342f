"""Figures from tidy rows and images, one file per finding; they draw means and quantiles and compute no other statistic."""

from reprolib.results.plots.inverses import code_size, hero_grid
from reprolib.results.plots.invertibility import distances, judges, trajectories
from reprolib.results.plots.verdicts import verdicts

__all__ = ["code_size", "distances", "hero_grid", "judges", "trajectories", "verdicts"]
