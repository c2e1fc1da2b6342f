"""Points moved by the loss, and samples of generators: entanglement with the data, modes hit, and the samples themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reprolib.figures import style
from reprolib.figures.reading import of_claim
from reprolib.findings.entanglement.generators import CLAIM, MODES, N_MODES, NEAR
from reprolib.findings.entanglement.toy import Path

LOOKS = {
    "healthy": ("#0072B2", "o", "healthy"), "deep": ("#56B4E9", "^", "deeper"), "regularised": ("#009E73", "s", "with the loss in its objective"),
    "collapsing": ("#D55E00", "X", "collapsing"),
}  # fmt: skip
"""Arm -> colour, marker, words."""
CLASSES = (("#0072B2", "o"), ("#E69F00", "s"), ("#009E73", "^"), ("#CC79A7", "D"))
N_PICTURES = 4
EDGE = 2.9  # of a picture of samples; what lies beyond it is not seen


@style.housed
def toy(paths: Sequence[Path]) -> Figure:
    """Frames of points coloured by label, two rows of paths; above each its entanglement (minimum over temperature / bound), below what it followed.

    loss: the one that the points followed, over the bound. spread: standard deviation of the points; frames are scaled to hold all of them.
    """
    n = len(paths[0].steps)
    figure = style.figure(style.WIDE, 0.15 + 1.6 * ((len(paths) + 1) // 2))
    panels = figure.subplots((len(paths) + 1) // 2, 2 * n, squeeze=False)
    for k, path in enumerate(paths):
        row = panels[k % len(panels), n * (k // len(panels)) :][:n]
        at = "at a fixed temperature" if path.temperature is not None else "at the minimum over temperature"
        words = f"{'entangled' if path.is_entangling else 'pulled apart'} {at}"
        for place, (ax, frame, share, step) in enumerate(zip(row, path.frames.numpy(), path.shares, path.steps, strict=True)):
            for label, (colour, marker) in zip(path.y.unique().tolist(), CLASSES, strict=False):
                own = frame[path.y.numpy() == label]
                ax.plot(*own.T, color=colour, marker=marker, linestyle="none", markersize=2.4, markeredgewidth=0, alpha=0.8)
            edge = 1.08 * float(np.abs(frame - frame.mean(axis=0)).max())
            middle = frame.mean(axis=0)
            ax.set(
                xlim=(middle[0] - edge, middle[0] + edge), ylim=(middle[1] - edge, middle[1] + edge), xticks=[], yticks=[], aspect="equal"
            )
            title = f"step {step}: {share:.2f}"
            ax.set_title(f"{words}\n{title}" if not place else title, fontsize=7)
            ax.set_xlabel(f"loss {path.followed[place]:.2f}, spread {frame.std(axis=0).mean():.1f}", fontsize=6.5, labelpad=2)
    for ax in panels.flat:
        ax.spines[["top", "right"]].set_visible(True)
    return figure


@style.housed
def generators(rows: pd.DataFrame) -> Figure:
    """Left: entanglement of samples with the data by step, a line a generator, its arm's mean thick; below, modes hit. Right: samples of the first seed.

    rows: real_fake_by_step, modes_by_step, sample_x and sample_y of ENT-8. Four steps are pictured, the last among them; grey circles: 3 s.d.
    of a mode.
    """
    found = of_claim(rows, CLAIM, ["real_fake_by_step", "modes_by_step", "sample_x", "sample_y"])
    arms = [arm for arm in LOOKS if arm in set(found["arm"])]
    figure = style.figure(style.WIDE, 0.55 + 0.97 * max(len(arms), 3))
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.32])  # type: ignore[misc]
    upper, lower = left.subplots(2, 1, sharex=True)
    for ax, quantity in ((upper, "real_fake_by_step"), (lower, "modes_by_step")):
        for arm in arms:
            own = found[(found["quantity"] == quantity) & (found["arm"] == arm)].assign(step=lambda one: one["unit"].astype(int))
            _course(ax, own.pivot_table(index="step", columns="seed", values="value"), arm)
    upper.axhline(1, **style.CHANCE)
    upper.set(ylabel="entanglement with the data\n(1: the bound, about ln 2)", ylim=(0, 1.06))
    lower.axhline(N_MODES, **style.CHANCE)
    lower.set(ylabel=f"modes hit, of {N_MODES}", xlabel="step", ylim=(-0.3, N_MODES + 0.4), yticks=range(0, N_MODES + 1, 2))
    samples = found[found["quantity"].isin(["sample_x", "sample_y"])].assign(step=lambda one: pd.to_numeric(one["unit_2"]))
    pictured = sorted(samples["step"].dropna().unique())[-N_PICTURES:]
    panels = right.subplots(len(arms), len(pictured), squeeze=False)
    for row, arm in zip(panels, arms, strict=True):
        for ax, step in zip(row, pictured, strict=True):
            own = samples[(samples["arm"] == arm) & (samples["step"] == step)].pivot_table(index="unit", columns="quantity", values="value")
            _ring(ax)
            ax.plot(
                own["sample_x"],
                own["sample_y"],
                color=LOOKS[arm][0],
                marker=".",
                linestyle="none",
                markersize=3,
                markeredgewidth=0,
                alpha=0.7,
            )
            ax.set_title(f"step {step:.0f}" if arm == arms[0] else "", loc="center", fontsize=7)
        row[0].set_ylabel(in_two(LOOKS[arm][2]), color=LOOKS[arm][0], fontsize=7)
    handles = [Line2D([], [], color=LOOKS[arm][0], marker=LOOKS[arm][1], label=LOOKS[arm][2]) for arm in arms]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(arms))
    return figure


def in_two(words: str) -> str:
    """Words on two lines, where there are several."""
    parts = words.split()
    return "\n".join(" ".join(part) for part in (parts[: len(parts) // 2], parts[len(parts) // 2 :]) if part)


def _course(ax: Axes, table: pd.DataFrame, arm: str) -> None:
    """A thin line a seed and their mean. table: steps x seeds."""
    colour, marker, _ = LOOKS[arm]
    ax.plot(table.index, table.to_numpy(), color=colour, linewidth=0.6, alpha=0.45)
    ax.plot(table.index, table.mean(axis=1), color=colour, marker=marker, linewidth=1.6, markeredgecolor="white", markeredgewidth=0.4)


def _ring(ax: Axes) -> None:
    turn = np.linspace(0, 2 * np.pi, 40)
    for x, y in MODES.tolist():
        ax.plot(x + NEAR * np.cos(turn), y + NEAR * np.sin(turn), color=style.FAINT, linewidth=0.7)
    ax.set(xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), xticks=[], yticks=[], aspect="equal")
    for side in ax.spines.values():
        side.set_visible(False)
