"""Figures from tidy rows and images, one file per finding; they draw means and quantiles and compute no other statistic."""

from reprolib.results.plots.ablations import ablations, layer_pictures
from reprolib.results.plots.block_structure import index_panel, lags, radii
from reprolib.results.plots.block_structure_bias import bias
from reprolib.results.plots.block_structure_depth import adversarial, overfitting, same_depth, settling
from reprolib.results.plots.block_structure_maps import dominance, external_maps, maps
from reprolib.results.plots.controls import controls
from reprolib.results.plots.interpolation import interpolation
from reprolib.results.plots.inverses import code_size, hero_grid
from reprolib.results.plots.invertibility import distances, judges, trajectories
from reprolib.results.plots.outside import outside
from reprolib.results.plots.trend import trend
from reprolib.results.plots.verdicts import verdicts
from reprolib.results.plots.visualisation import additions, extremes, spectra
from reprolib.results.plots.visualisation import visualisation as units

__all__ = [
    "ablations", "additions", "adversarial", "bias", "code_size", "controls", "distances", "dominance", "external_maps", "extremes", "hero_grid", "index_panel",
    "interpolation", "judges", "lags", "layer_pictures", "maps", "outside", "overfitting", "radii", "same_depth", "settling", "spectra",
    "trajectories", "trend", "units", "verdicts",
]  # fmt: skip
