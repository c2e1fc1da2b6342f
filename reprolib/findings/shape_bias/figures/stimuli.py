"""The sheet of stimuli: what each test keeps, and what it takes away."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from matplotlib.figure import Figure
from torch import Tensor

from reprolib.data import distort
from reprolib.errors import MissingData
from reprolib.figures import style
from reprolib.figures.page import LABEL_IN, PAD_IN, Group, grid
from reprolib.findings.shape_bias import stimuli as shown
from reprolib.findings.shape_bias.networks import OWN
from reprolib.findings.shape_bias.stimuli import Stimuli
from reprolib.study import Study

STRENGTH = 2  # of corruptions


def sheet(study: Study, distortions: Mapping[str, Callable[[Tensor], Tensor]]) -> Figure | None:
    """Rows: conflict, clean and what is made of it; columns: classes of the shape. None where images are not here.

    Below a conflict stands what the texture speaks for; single textures stand under the class that they speak for.
    """
    if not study.can_measure:
        return None
    try:
        conflict, outlines = shown.conflicts(study)[OWN], shown.outlines(study)
    except MissingData:
        return None
    clean = shown.clean(study)
    rows = {"clean": clean} | {name: clean.shown(change(clean.x)) for name, change in distortions.items()}
    for family in study.settings.values.get("corruptions", {}):
        rows[family] = clean.shown(distort.corrupt(clean.x, family, STRENGTH, range(len(clean.x))))
    rows |= outlines | {name: shown.variant(study, name) for name in study.settings.values.get("single", ())}
    return _page(conflict, rows)


@style.housed
def _page(conflict: Stimuli, rows: Mapping[str, Stimuli]) -> Figure:
    columns = [_first(conflict, name, k) for k, name in enumerate(conflict.shapes)]
    pictures = {name: [of.x[_first(of, word, k)] for k, word in enumerate(conflict.shapes)] for name, of in rows.items()}
    page, side, tops = grid([Group("", conflict.x[columns], pictures)], list(pictures), "conflict", header=0.2, foot=0.05, most=0.5)
    for name, top in tops.items():
        page.label(name.replace("_", " "), top + side / 2)
    for k, column in enumerate(columns):
        left = LABEL_IN + k * (side + PAD_IN)
        page.text(conflict.shapes[k], left + side / 2, 0.14, ha="center", fontsize=6.5)
        texture = conflict.textures[int(conflict.texture[column])]
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
        page.text(texture, left + side - 0.02, 0.2 + side - 0.02, ha="right", va="bottom", fontsize=5, bbox=box)
    return page.figure


def _first(of: Stimuli, name: str, column: int) -> int:
    """The first image of the class of that name, the very first where there is none; of variants, which name textures or pairs, of that column."""
    wanted = of.shapes.index(name) if name in of.shapes else column
    return int((of.shape == wanted).int().argmax())
