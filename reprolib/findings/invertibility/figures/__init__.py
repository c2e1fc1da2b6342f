"""The figures of invertibility, from tidy rows and pictures."""

from reprolib.findings.invertibility.figures.ablations import ablations, layer_pictures
from reprolib.findings.invertibility.figures.charts import judges, trajectories
from reprolib.findings.invertibility.figures.controls import controls
from reprolib.findings.invertibility.figures.interpolation import interpolation
from reprolib.findings.invertibility.figures.inverses import code_size, hero_grid
from reprolib.findings.invertibility.figures.outside import outside
from reprolib.findings.invertibility.figures.trend import trend
from reprolib.findings.invertibility.figures.visualisation import additions, extremes
from reprolib.findings.invertibility.figures.visualisation import visualisation as units

__all__ = [
    "ablations", "additions", "code_size", "controls", "extremes", "hero_grid", "interpolation", "judges", "layer_pictures", "outside",
    "trajectories", "trend", "units",
]  # fmt: skip
