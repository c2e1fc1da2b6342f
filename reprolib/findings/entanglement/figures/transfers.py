"""What entangling does to attacks: transfer between networks, and accuracy with and without an attack against alpha."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reprolib.figures import charts, style
from reprolib.figures.page import in_lines
from reprolib.figures.reading import network_means, of_claim
from reprolib.judging.evidence import Evidence
from reprolib.judging.ledger import load_claims
from reprolib.measures.effects import Absent, Effect
from reprolib.training.recipes import recipe

ARMS = ("standard", "entangled")
WITH_ALPHA = ("standard", "entangled", "disentangled")
PANELS = {
    "no attack": ("ENT-2", "correct", "choice_correct"),
    "PGD, standard keeps half": ("ENT-11", "adversarial_correct@half", ""),
    "PGD at the main radius": ("ENT-11", "adversarial_correct", "choice_adversarial_correct"),
}
"""Title -> the claim, its quantity, and the quantity of ENT-2 that tells the same, from cards, of the networks alpha was chosen by."""


@style.housed
def transfer(rows: pd.DataFrame) -> Figure:
    """Left, of each network that perturbations were made for (down), the share that fools each other one; right, by arms, with 95 % intervals.

    rows: ENT-6, "transferred" (unit_2 names the network it was shown to, reached where its own was fooled), "white_box", which stands
    on the diagonal and right, as diamonds, and "eps", the radius in pixel units. Networks of one seed share their start, and are not compared.
    """
    found = of_claim(rows, "ENT-6", ("transferred", "white_box", "eps"))
    found = found.assign(source=found["arm"] + ":" + found["seed"].astype(str))
    white, eps = (
        {str(name): float(of["value"].mean()) for name, of in found[found["quantity"] == one].groupby("source")}
        for one in ("white_box", "eps")
    )
    made = found[(found["quantity"] == "transferred") & found["reached"].astype(bool)]
    rates = {(str(source), str(target)): float(of["value"].mean()) for (source, target), of in made.groupby(["source", "unit_2"])}
    figure = style.figure(style.WIDE, 2.9)
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    _matrix(left, rates, white, eps)
    _by_arms(right, rows, white)
    return figure


def rate(rows: pd.DataFrame, source: str, target: str) -> Effect | Absent:
    """The transfer rate from networks of one arm to those of another, or of the same one, of other seeds; its interval as in the claim.

    rows: ENT-6. Absent where there is no such pair.
    """
    contrast = replace(load_claims("entanglement")["ENT-6"].contrast, statistic="alike", arms=(source, target), reference=0.0)
    return Evidence(rows[rows["claim"] == contrast.claim], "smoke", is_rounded=True).effect(contrast)


def _matrix(ax: Axes, rates: dict[tuple[str, str], float], white: dict[str, float], eps: dict[str, float]) -> None:
    down, across = _in_order([*white]), _in_order([target for _, target in rates])
    shown = np.array([[rates.get((source, target), np.nan) for target in across] for source in down])
    ax.imshow(shown, cmap="Greys", vmin=0, vmax=1.5, aspect="auto", interpolation="nearest")
    for (i, source), (j, target) in itertools.product(enumerate(down), enumerate(across)):
        if source == target:
            ax.text(j, i, f"{100 * white[source]:.0f}", ha="center", va="center", fontsize=7, fontweight="bold")
        elif (source, target) in rates:
            ax.text(j, i, f"{100 * rates[source, target]:.0f}", ha="center", va="center", fontsize=7)
    for names, axis in ((across, ax.xaxis), (down, ax.yaxis)):
        words = [f"{style.role(name.partition(':')[0]).label} {name.rpartition(':')[2]}" for name in names]
        if names is down:
            words = [f"{word}\neps {eps[name]:.2g}" if name in eps else word for word, name in zip(words, names, strict=True)]
        axis.set_ticks(range(len(names)), words)
        for label, name in zip(axis.get_ticklabels(), names, strict=True):
            label.set_color(style.role(name.partition(":")[0]).colour)
    ax.tick_params(length=0, labelsize=6)
    ax.tick_params(axis="x", rotation=90)
    ax.spines[:].set_visible(False)
    ax.set(title="% fooled; bold: by its own", xlabel="shown to", ylabel="made for")


def _by_arms(ax: Axes, rows: pd.DataFrame, white: dict[str, float]) -> None:
    kinds = [*itertools.product(ARMS, ARMS)]
    for at, (source, target) in enumerate(kinds):
        look, found = style.role(source), rate(rows, source, target)
        if isinstance(found, Absent):
            continue
        if source == target:
            own = [value for name, value in white.items() if name.partition(":")[0] == source]
            _row_of(ax, at, own, marker="D", markersize=3, color="none", markeredgecolor=look.colour)
        pairs = sorted(value for networks in found.networks.values() for value in networks.values())
        _row_of(ax, at, pairs, marker=look.marker, markersize=3.6, color=look.colour, alpha=0.5, markeredgewidth=0)
        ax.hlines(found.estimate, at - 0.22, at + 0.22, color=style.INK, linewidth=1.4, zorder=3)
        if np.isfinite(found.low):
            ax.vlines(at, found.low, found.high, color=style.INK, linewidth=1, zorder=3)
    ax.set_xticks(range(len(kinds)), [f"{in_lines(style.role(a).label)}\nto {style.role(b).label}" for a, b in kinds], fontsize=6)
    ax.set(xlim=(-0.5, len(kinds) - 0.5), ylim=(0, 1.03), ylabel="share fooled", title="each pair; diamonds: its own")


def _row_of(ax: Axes, at: int, values: Sequence[float], **look: object) -> None:
    """Values beside each other around a place."""
    ax.plot(at + 0.07 * (np.arange(len(values)) - (len(values) - 1) / 2), values, linestyle="none", **look)  # type: ignore[arg-type]


def _in_order(names: Sequence[str]) -> list[str]:
    """Distinct names "<arm>:<seed>", arms as everywhere."""
    arms = style.in_order([name.partition(":")[0] for name in names])
    return sorted(set(names), key=lambda name: (arms.index(name.partition(":")[0]), int(name.rpartition(":")[2])))


@style.housed
def against_alpha(rows: pd.DataFrame) -> Figure:
    """Accuracy without attack and under PGD at two radii, by the weight alpha of the loss: a dot a network, a bar at their mean.

    rows: ENT-2 "correct", ENT-11 "adversarial_correct" and "adversarial_correct@half"; hollow: networks that alpha was chosen by, from
    cards ("choice_correct", "choice_adversarial_correct", the latter under PGD-20 with 3 restarts). To the right the arms without an alpha.
    """
    tables = {title: _accuracies(rows, *panel) for title, panel in PANELS.items() if (rows["quantity"] == panel[1]).any()}
    whole = pd.concat([_accuracies(rows, *PANELS["no attack"]), *tables.values()], ignore_index=True)
    alphas = sorted(whole["alpha"].dropna().unique())
    others = style.in_order([*whole.loc[whole["alpha"].isna(), "arm"]])
    ticks = [f"{alpha:g}" for alpha in alphas] + [in_lines(style.role(arm).label) for arm in others]
    figure = style.figure(style.WIDE, 2.4)
    for ax, (title, table) in zip(figure.subplots(1, len(tables), sharey=True, squeeze=False)[0], tables.items(), strict=True):
        for arm in style.in_order([*table["arm"]]):
            look, of_arm = style.role(arm), table[table["arm"] == arm]
            for alpha in of_arm["alpha"].unique():
                at = len(alphas) + others.index(arm) if np.isnan(alpha) else alphas.index(alpha)
                of = of_arm if np.isnan(alpha) else of_arm[of_arm["alpha"] == alpha]
                seeds, chosen = (of.loc[of["is_choice"] == is_choice, "value"].tolist() for is_choice in (False, True))
                if seeds:
                    ax.hlines(float(np.mean(seeds)), at - 0.32, at + 0.32, color=style.FAINT, linewidth=1.2, zorder=1)
                _row_of(ax, at, seeds, marker=look.marker, markersize=4, color=look.colour)
                _row_of(ax, at, chosen, marker=look.marker, markersize=4.6, color="none", markeredgecolor=look.colour)
        ax.set_xticks(range(len(ticks)), ticks, fontsize=6)
        ax.set(title=title, xlim=(-0.6, len(ticks) - 0.4), ylim=(-0.03, 1.03), xlabel="alpha")
    figure.supylabel("accuracy", fontsize=8)
    hollow = Line2D([], [], color="none", marker="o", markeredgecolor=style.FAINT, label="alpha was chosen by")
    keys = charts.keys(style.in_order([*whole["arm"]]), linestyle="none") + [hollow] * bool(whole["is_choice"].any())
    figure.legend(handles=keys, loc="outside lower center", ncols=5)
    return figure


def _accuracies(rows: pd.DataFrame, claim: str, quantity: str, of_cards: str) -> pd.DataFrame:
    """A row a network: arm, seed, network, value, is_choice, and the alpha of its recipe, nan where its arm has none."""
    parts = [of_claim(rows, claim, [quantity]).assign(is_choice=False)]
    parts.append(rows[(rows["claim"] == "ENT-2") & (rows["quantity"] == of_cards)].assign(is_choice=True))
    table = network_means(pd.concat(parts, ignore_index=True), "recipe", "is_choice")
    alphas = [recipe(name).alpha if arm in WITH_ALPHA else np.nan for arm, name in zip(table["arm"], table["recipe"], strict=True)]
    return table.assign(alpha=alphas)
