"""Matrices and curves of layer similarity, made again from the rows of batch HSICs: what the block-structure figures draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.figures.reading import of_claim, short_layer
from reprolib.findings.block_structure import hsic_rows
from reprolib.findings.block_structure.networks import named, stages_of
from reprolib.findings.block_structure.rows import DEPTH
from reprolib.models.networks import MINE

EXTERNAL = "external"
"""Claim of the rows of the external pair, and how their arms begin."""

MAP: dict[str, Any] = {"cmap": "viridis", "vmin": 0.0, "vmax": 1.0, "interpolation": "nearest", "origin": "lower"}
"""One scale of colours for every map, with the first layer at the bottom left."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Layered:
    """Something measured at every layer of one network: values (L, L) or (..., L). partner: of a pair, the other's (arm, seed)."""

    arm: str
    seed: int
    network: str
    architecture: str
    values: Array
    partner: tuple[str, int] = ("", 0)


def matrices(rows: pd.DataFrame, claim: str, quantity: str = "hsic") -> list[Layered]:
    """The CKA matrix of every network, arms in their fixed order, then seeds. Raises BadInput where there are no such rows."""
    return _each(of_claim(rows, claim, [quantity]), lambda frame: hsic_rows.network(frame).matrix())


def between(rows: pd.DataFrame) -> list[Layered]:
    """The CKA matrix of every pair of deep networks (the first one's layers down, the partner's across); empty where there are none."""
    pairs = rows[(rows["claim"] == DEPTH) & (rows["quantity"] == "hsic_pair")]
    if pairs.empty:
        return []
    own = of_claim(rows, DEPTH, ["hsic"]).drop_duplicates("network")
    who = {str(row.network): (str(row.arm), int(str(row.seed))) for row in own.itertuples()}
    measured = []
    for partner, of_partner in pairs.groupby(pairs["unit_2"].str.partition("|")[0]):
        if partner not in who:
            raise BadInput(f"rows of pairs name the network {partner}, which has no rows of its own: measure both")
        ones = _each(of_partner, lambda frame: hsic_rows.pair(frame).matrix())
        measured += [replace(one, partner=who[str(partner)]) for one in ones]
    return measured


def external_pair(rows: pd.DataFrame) -> tuple[list[Layered], list[Layered]]:
    """The CKA matrices of the external networks, by the arm they stand for, and of the two at equal depth (L,); empty where there are none."""
    measured = rows[rows["claim"] == EXTERNAL]
    measured = measured.assign(arm=measured["arm"].str.removeprefix(f"{EXTERNAL}_"))
    own, pair = (measured[measured["quantity"] == quantity] for quantity in ("hsic", "hsic_pair"))
    if own.empty:
        return [], []
    across = _each(pair, lambda frame: hsic_rows.pair(frame).same_depth())
    return _each(own, lambda frame: hsic_rows.network(frame).matrix()), across


def curves(rows: pd.DataFrame, claim: str, pair: tuple[str, str]) -> list[Layered]:
    """CKA at equal depth (L,) of two states of every network that has them; empty where none has."""
    measured = rows[(rows["claim"] == claim) & (rows["quantity"] == "hsic_states")]
    if measured.empty:
        return []
    states = measured["unit_2"].str.rpartition("|")[0]
    wanted = measured[states.isin(["|".join(names) for names in (pair, (pair[0], pair[0]), (pair[1], pair[1]))])]
    having = wanted[wanted["unit_2"].str.startswith("|".join(pair) + "|")]["network"].unique()
    return _each(wanted[wanted["network"].isin(having)], lambda frame: hsic_rows.states(frame)[pair].same_depth())


def epochs_of(rows: pd.DataFrame, claim: str) -> list[int]:
    """The epochs of the states of trainings that rows of a claim hold, in order; empty where there are none."""
    measured = rows[(rows["claim"] == claim) & (rows["quantity"] == "hsic_states")]["unit_2"]
    numbers = measured[measured.str.startswith("epoch_")].str.extract(r"^epoch_(\d+)\|")[0].dropna()
    return sorted({int(number) for number in numbers})


def by_layer(rows: pd.DataFrame, quantity: str) -> list[Layered]:
    """Means over batches (L,) of a quantity that every layer of a deep network has."""

    def values(frame: pd.DataFrame) -> Array:
        means = frame.groupby(frame["unit_2"].astype(int))["value"].mean().sort_index()
        return means.to_numpy(dtype=np.float64)

    return _each(of_claim(rows, DEPTH, [quantity]), values)


def of_arm(measured: Sequence[Layered], arm: str, partner: str | None = None) -> list[Layered]:
    """Those of one arm; of pairs, also with a partner of that arm."""
    return [one for one in measured if one.arm == arm and (partner is None or one.partner[0] == partner)]


def edges(architecture: str, n_layers: int) -> list[float]:
    """Where one stage ends and the next begins, on an axis of layer numbers; stem and pooled features stand alone."""
    return sorted({end for stage in stages_of(architecture, n_layers) for end in (stage[0] - 0.5, stage[-1] + 0.5)})


def draw_map(ax: Axes, matrix: Array, architecture: str) -> AxesImage:
    """A matrix of layer similarities, the first layer at the bottom left, with lines between the stages."""
    image = ax.imshow(matrix, **MAP)
    for edge in edges(architecture, len(matrix)):
        ax.axhline(edge, color="white", linewidth=0.6)
        ax.axvline(edge, color="white", linewidth=0.6)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return image


def name_stages(ax: Axes, architecture: str, n_layers: int, axis: Literal["x", "y"] = "x", briefly: bool = False) -> None:
    """Name the stages (the layers, where there are none) along an axis of layer numbers; briefly: by number alone."""
    in_stages, names = stages_of(architecture, n_layers), named(architecture, n_layers)
    middles = [float(np.mean(stage)) for stage in in_stages]
    if in_stages and briefly:
        places, words = middles, [str(k + 1) for k in range(len(in_stages))]
        (ax.set_xlabel if axis == "x" else ax.set_ylabel)("stage", fontsize=6.5, labelpad=1)
    elif in_stages:
        places, words = [0, *middles, n_layers - 1], ["stem", *(f"stage {k + 1}" for k in range(len(in_stages))), "pool"]
    else:
        places, words = list(range(n_layers)), [short_layer(name) for name in names]
    (ax.set_xticks if axis == "x" else ax.set_yticks)(places, words)
    ax.tick_params(axis=axis, length=0)


def depth_axis(ax: Axes, architecture: str, n_layers: int) -> None:
    """An axis of depth: layers in execution order, stages named and set apart."""
    for edge in edges(architecture, n_layers):
        ax.axvline(edge, color=style.FAINT, linewidth=0.4, zorder=0)
    name_stages(ax, architecture, n_layers)
    ax.set_xlim(-0.5, n_layers - 0.5)


def line(ax: Axes, ones: Sequence[Layered], colour: str, x: Sequence[float] | None = None, **look: Any) -> None:
    """The mean over networks (or pairs) of values (L,), and the band they span."""
    if not ones:
        return
    places = range(len(ones[0].values)) if x is None else x
    frame = pd.concat([pd.DataFrame({"place": places, "value": one.values}) for one in ones])
    band: dict[str, Any] = {"errorbar": ("pi", 100), "err_kws": {"alpha": 0.18, "linewidth": 0}}
    sns.lineplot(frame, x="place", y="value", color=colour, ax=ax, legend=False, **band, **{"markeredgewidth": 0, **look})
    ax.set(xlabel="", ylabel="")


def arm_line(ax: Axes, measured: Sequence[Layered], arm: str, **look: Any) -> None:
    """The `line` of one arm, in its looks but for those given."""
    role = style.role(arm)
    line(ax, of_arm(measured, arm), role.colour, **{"marker": role.marker, "label": role.label, **look})


def colour_bar(figure: FigureBase, image: AxesImage, axes: Sequence[Axes], words: str = "CKA", **place: Any) -> None:
    """The scale of colours of maps, beside them."""
    bar = figure.colorbar(image, ax=list(axes), ticks=[0, 0.5, 1], **place)
    bar.set_label(words, labelpad=1)
    bar.outline.set_visible(False)


def architecture_of(measured: Sequence[Layered]) -> str:
    """The one architecture of what is drawn together, beside a reader's own. Raises BadInput for several, or none."""
    there = sorted({one.architecture for one in measured if one.arm != MINE})
    if len(there) != 1:
        raise BadInput(f"layers of {', '.join(there) or 'no architecture'} cannot share an axis: give rows of one")
    return there[0]


def _each(rows: pd.DataFrame, value: Callable[[pd.DataFrame], Array]) -> list[Layered]:
    order = {arm: k for k, arm in enumerate(style.ROLES)}
    measured = []
    for _, frame in rows.groupby(["arm", "seed", "network"]):
        first = frame.iloc[0]
        style.role(first["arm"])
        measured.append(Layered(first["arm"], int(first["seed"]), first["network"], first["architecture"], value(frame)))
    return sorted(measured, key=lambda one: (order[one.arm], one.seed))
