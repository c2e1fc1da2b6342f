"""The one house style: sizes, fixed roles (colour and marker), files with equal bytes and a stamp inside."""

from __future__ import annotations

import contextlib
import functools
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure

from reprolib import store
from reprolib.errors import BadInput, nearest
from reprolib.measures.verdicts import TRAINED
from reprolib.models.networks import MINE

NARROW = 3.3  # inches: one column of a paper
WIDE = 6.8  # inches: both columns
DPI = 200
STAMP_KEY = "reprolib"

INK = "#262626"
FAINT = "#8C8C8C"


@dataclass(frozen=True)
class Role:
    """How one arm looks in every figure: `colour` (hex), `marker` (matplotlib's), `label` (its name in words), hollow dots or full."""

    colour: str
    marker: str | tuple[int, Literal[0, 1, 2], int]
    label: str
    is_hollow: bool = False


# The colours keep apart under simulated protanopia, deuteranopia and tritanopia (a test measures it); markers double them.
ROLES: dict[str, Role] = {
    "standard": Role("#4F6D8F", "o", "standard"),
    "robust": Role("#D55E00", "s", "robust"),
    "robust_small": Role("#F4B183", "<", "robust, small eps"),
    "robust_medium": Role("#F28430", (6, 1, 0), "robust, medium eps"),
    "robust_large": Role("#7A2E00", ">", "robust, large eps"),
    "robust_linf": Role("#A8005C", "p", "robust, linf"),
    "robust_l2": Role("#5B3A8E", "X", "robust, l2"),
    "gauss": Role("#009E73", "^", TRAINED["gauss"]),
    "blur": Role("#CC79A7", "v", TRAINED["blur"]),
    "label_smoothing": Role("#E62EC1", (4, 1, 0), TRAINED["label_smoothing"]),
    "std_matched": Role("#7FBFEA", "P", TRAINED["std_matched"]),
    "untrained": Role("#C4C4C4", "D", "untrained"),
    "entangled": Role("#917FFF", "H", "entangled"),
    "disentangled": Role("#34004C", "8", "disentangled"),
    "pca": Role("#E3C800", "h", "PCA of pixels"),
    "judge": Role("#262626", "*", "judge"),
    MINE: Role("#0000FF", "d", "mine"),
}
EXTERNAL = "external_"
"""Before the role of a network that others trained: drawn hollow, in that role's colour, behind all others."""

CHANCE: dict[str, Any] = {"color": FAINT, "linestyle": ":", "linewidth": 1.0}
REFERENCE: dict[str, Any] = {"color": INK, "linestyle": "--", "linewidth": 0.9}

RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib, so every machine draws the same letters
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 9,
    "mathtext.fontset": "dejavusans",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.width": 0.5,
    "ytick.minor.width": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.prop_cycle": cycler(color=[ROLES[role].colour for role in ("standard", "robust", "gauss", "blur", "std_matched", "judge")]),
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "image.interpolation": "nearest",
    "image.cmap": "gray",
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "savefig.dpi": DPI,
    "savefig.facecolor": "white",
    "savefig.bbox": None,
    "pdf.fonttype": 42,  # text stays text
    "path.simplify": True,
}


class HouseFigure(Figure):
    """A figure that no pyplot state knows of, yet that a notebook shows as a picture when it is a cell's last value."""

    def _repr_png_(self) -> bytes:
        return png_bytes(self)


@contextlib.contextmanager
def context() -> Iterator[None]:
    """The house style for a `with` block, on matplotlib's defaults: whatever else the reader has set counts for nothing within."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def figure(width_in: float = WIDE, height_in: float = 2.4, **keywords: Any) -> Figure:
    """An empty figure of the house, `width_in` x `height_in` inches, laid out by constrained layout unless told otherwise."""
    return HouseFigure(figsize=(width_in, height_in), **{"layout": "constrained", **keywords})


def housed(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorator: draw in the house style, and finish within it (ticks are made late, and would take the caller's settings)."""

    @functools.wraps(draw)
    def wrapper(*arguments: Any, **keywords: Any) -> Figure:
        with context():
            drawn = draw(*arguments, **keywords)
            drawn.draw_without_rendering()
        return drawn

    return wrapper


def role(arm: str) -> Role:
    """The fixed look of an arm, hollow where others trained it. Raises BadInput for an arm that has none."""
    own = ROLES.get(arm.removeprefix(EXTERNAL))
    if own is None:
        raise BadInput(f"arm {arm!r} has no colour in the house style: one of {', '.join(ROLES)} is needed{nearest(arm, ROLES)}")
    return replace(own, label=f"others', {own.label}", is_hollow=True) if arm.startswith(EXTERNAL) else own


def in_order(arms: Sequence[str]) -> list[str]:
    """The distinct arms in the order of ROLES, others' networks last, so that every figure lists them alike."""
    for arm in arms:
        role(arm)
    return [name for name in (*ROLES, *(EXTERNAL + name for name in ROLES)) if name in set(arms)]


def png_bytes(figure: Figure, dpi: int = DPI, text: str | None = None) -> bytes:
    """The figure as a png: equal figures give equal bytes. text: kept in the file under the key `reprolib`."""
    metadata: dict[str, Any] = {"Software": None}  # the writer's version would change the bytes
    if text is not None:
        metadata[STAMP_KEY] = text
    return _rendered(figure, "png", metadata, dpi)


def save(figure: Figure, path_without_suffix: str | PathLike[str], stamp: Mapping[str, Any]) -> list[Path]:
    """Write the figure as png and pdf, the stamp inside each file; equal figures and stamps give equal bytes.

    stamp: plain JSON (tree, parameters, seeds, networks). Returns the paths written.
    Raises BadInput for a stamp JSON cannot hold, StorageError when the disk is full.
    """
    try:
        text = json.dumps(dict(stamp), allow_nan=False)  # ASCII, which both formats keep as it is
    except (TypeError, ValueError) as error:
        raise BadInput(f"the stamp cannot be written as JSON ({error}): use plain numbers, strings, lists and dicts, and no NaN") from error
    with context():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once for both formats: each would else do it twice
    pdf = {"Keywords": text, "CreationDate": None, "Creator": None, "Producer": None}
    contents = {"png": png_bytes(figure, text=text), "pdf": _rendered(figure, "pdf", pdf)}
    return [store.write_bytes(f"{fspath(path_without_suffix)}.{suffix}", content) for suffix, content in contents.items()]


def _rendered(figure: Figure, format_: str, metadata: Mapping[str, Any], dpi: int = DPI) -> bytes:
    buffer = io.BytesIO()
    with context():
        figure.savefig(buffer, format=format_, metadata=dict(metadata), dpi=dpi)
    return buffer.getvalue()
