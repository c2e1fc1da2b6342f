"""Layer by layer: networks against each other, clean against moved images, a network against its own past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reprolib.errors import BadInput
from reprolib.figures import charts, style
from reprolib.findings.block_structure.figures import layered
from reprolib.findings.block_structure.figures.layered import MAP, Layered
from reprolib.findings.block_structure.networks import ARMS, CONTROLS, DRAWN
from reprolib.findings.block_structure.rows import ADVERSARIAL, OVERFITTING, SETTLING
from reprolib.measures import indices

STAYS = 0.8  # above it, features "stay" with the clean ones
MIXED = "#7A5195"
"""Of pairs of a standard and a robust network: between their two colours."""


@style.housed
def same_depth(rows: pd.DataFrame) -> Figure:
    """CKA at equal depth of two standard, two robust, and a standard and a robust network, all of different seeds; bands span the pairs.

    rows: claim "BLK-1", quantities "hsic" and "hsic_pair". Thin: a standard network with a control. Raises BadInput where there is no pair.
    """
    pairs = [replace(one, values=np.diagonal(one.values).copy()) for one in layered.between(rows)]
    if not pairs:
        raise BadInput("there are no rows of pairs of networks of different seeds: measure at least two seeds an arm")
    figure = style.figure(style.WIDE, 2.4)
    ax = figure.subplots()
    standard, robust = (style.role(arm) for arm in ARMS)
    kinds = [
        (layered.of_arm(pairs, "standard", "standard"), standard.colour, standard.marker, "two standard networks"),
        (layered.of_arm(pairs, "robust", "robust"), robust.colour, robust.marker, "two robust networks"),
        (layered.of_arm(pairs, "standard", "robust"), MIXED, "X", "a standard and a robust one"),
    ]
    for ones, colour, marker, label in kinds:
        layered.line(ax, ones, colour, marker=marker, label=f"{label} ({len(ones)} pair{'s' * (len(ones) > 1)})")
    for arm in CONTROLS:
        look, ones = style.role(arm), layered.of_arm(pairs, "standard", arm)
        layered.line(ax, ones, look.colour, marker=look.marker, markersize=3, linewidth=0.8, label=f"standard with {look.label}")
    layered.depth_axis(ax, layered.architecture_of(pairs), len(pairs[0].values))
    ax.set_ylim(min(0, ax.get_ylim()[0]), 1.02)
    ax.set_ylabel("CKA at equal depth")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right center")
    return figure


@style.housed
def adversarial(rows: pd.DataFrame) -> Figure:
    """CKA of clean with moved images by depth: left the attack at the training radius and noise of its norm, right at equal attack success.

    rows: claim "BLK-6", quantities "hsic_states" (states clean, adversarial, noise, equal_success) and "attack_success". Lines are means
    over seeds, bands span them; thin, right: controls. Grey: the last third of the layers, in which the claim is decided.
    """
    kinds = {kind: layered.curves(rows, ADVERSARIAL, ("clean", kind)) for kind in ("adversarial", "noise", "equal_success")}
    if not kinds["adversarial"]:
        raise BadInput(f"claim {ADVERSARIAL!r} has no rows of clean against adversarial images: measure it first")
    architecture, n = layered.architecture_of(kinds["adversarial"]), len(kinds["adversarial"][0].values)
    figure = style.figure(style.WIDE, 2.6)
    left, right = figure.subplots(1, 2, sharey=True)
    for ax, shown, words in (
        (left, (("adversarial", "-"), ("noise", ":")), "PGD at the training radius"),
        (right, (("equal_success", "-"),), "scaled down to equal success"),
    ):
        for kind, dashes in shown:
            for arm in DRAWN:  # yours, which may have more layers, over the same depth
                x = np.linspace(0, n - 1, len(next(iter(layered.of_arm(kinds[kind], arm)), kinds[kind][0]).values))
                layered.arm_line(ax, kinds[kind], arm, x=x.tolist(), markersize=3.5, linestyle=dashes)
        layered.depth_axis(ax, architecture, n)
        for arm in CONTROLS if ax is right else ():
            layered.arm_line(ax, kinds["equal_success"], arm, markersize=2.5, linewidth=0.8)
        ax.axvspan(n - (n + 2) // 3 - 0.5, n - 0.5, color=style.FAINT, alpha=0.12, linewidth=0, zorder=0)
        ax.axhline(STAYS, **style.CHANCE, zorder=0)
        ax.set_title(f"{words}\n{_successes(rows, shown[0][0])}", fontsize=7)
    lowest = min(float(one.values.min()) for ones in kinds.values() for one in ones)
    left.set_ylim(min(0, lowest - 0.03), 1.02)
    left.set_ylabel("CKA of clean and moved images")
    there = [arm for arm in (*DRAWN, *CONTROLS) if layered.of_arm(kinds["adversarial"], arm)]
    handles = charts.keys(there)
    handles.append(Line2D([], [], color=style.FAINT, linestyle=":", label="random noise of equal norm"))
    figure.legend(handles=handles, loc="outside lower left", ncols=4)
    return figure


@style.housed
def settling(rows: pd.DataFrame) -> Figure:
    """CKA of every epoch with the last, by layer, of the first network of each arm; right: its mean over training, by depth, of all.

    rows: claim "BLK-7", quantity "hsic_states", states "epoch_0" (untrained), "epoch_1", ... Thin lines: the untrained network
    against the last epoch, the floor.
    """
    epochs = layered.epochs_of(rows, SETTLING)
    if len(epochs) < 2:
        raise BadInput(f"claim {SETTLING!r} has rows of {len(epochs)} epochs: states of a training are needed")
    by_epoch = {epoch: layered.curves(rows, SETTLING, (f"epoch_{epoch}", f"epoch_{epochs[-1]}")) for epoch in epochs[:-1]}
    architecture = layered.architecture_of([one for ones in by_epoch.values() for one in ones])
    there = [arm for arm in ARMS if layered.of_arm(by_epoch[epochs[0]], arm)]
    figure = style.figure(style.WIDE, 2.5)
    axes = figure.subplots(1, len(there) + 1, width_ratios=[*([1] * len(there)), 1.3])
    for ax, arm in zip(axes, there, strict=False):
        first = [layered.of_arm(by_epoch[epoch], arm)[0].values for epoch in epochs[:-1]]
        shown = np.stack([*first, np.ones_like(first[0])])
        image = ax.imshow(shown.T, aspect="auto", extent=(-0.5, len(epochs) - 0.5, -0.5, shown.shape[1] - 0.5), **MAP)
        for edge in layered.edges(architecture, shown.shape[1]):
            ax.axhline(edge, color="white", linewidth=0.6)
        every = range(0, len(epochs), max(1, len(epochs) // 5))
        ax.set_xticks(list(every), [str(epochs[k]) for k in every])
        ax.set_xlabel("epoch")
        ax.set_title(style.role(arm).label, color=style.role(arm).colour, loc="center")
        ax.set_yticks([])
    layered.name_stages(axes[0], architecture, shown.shape[1], "y")
    layered.colour_bar(figure, image, axes[len(there) - 1 : len(there)], "CKA with the last epoch", pad=0.02)
    for arm in there:
        seeds = [one.network for one in layered.of_arm(by_epoch[epochs[0]], arm)]
        layered.arm_line(axes[-1], [_settled(by_epoch, epochs, network) for network in seeds], arm, markersize=3.5)
        layered.arm_line(axes[-1], by_epoch[epochs[0]], arm, linewidth=0.8, linestyle=":", marker="", label=None)
    axes[-1].plot([], [], color=style.FAINT, linewidth=0.8, linestyle=":", label="untrained with last")
    layered.depth_axis(axes[-1], architecture, shown.shape[1])
    axes[-1].tick_params(axis="x", labelrotation=45)
    axes[-1].set_ylim(0, 1.02)
    axes[-1].set_title("mean over training", loc="center")
    axes[-1].legend(loc="best", fontsize=6)
    return figure


@style.housed
def overfitting(rows: pd.DataFrame) -> Figure:
    """1 - CKA of the best state with the last, by depth; thin: of two states as far apart before overfitting.

    rows: claim "BLK-5", quantities "hsic_states" and "epochs".
    """
    late, early = (layered.curves(rows, OVERFITTING, pair) for pair in (("best", "last"), ("before_1", "before_2")))
    if not late:
        raise BadInput(f"claim {OVERFITTING!r} has no rows: the pair of networks that overfits was not measured")
    figure = style.figure(style.WIDE, 2.4)
    ax = figure.subplots()
    changed, before = ([replace(one, values=1 - one.values) for one in ones] for ones in (late, early))
    for arm in ARMS:
        name = style.role(arm).label
        layered.arm_line(ax, changed, arm, label=f"{name}, best to last")
        layered.arm_line(ax, before, arm, marker="", linewidth=0.8, linestyle="--", label=f"{name}, as long before")
    layered.depth_axis(ax, layered.architecture_of(late), len(late[0].values))
    ax.set_ylim(0, None)
    ax.set_ylabel("1 - CKA of two epochs")
    ax.set_title(_epochs(rows))
    ax.legend(loc="best", ncols=2)
    return figure


def _settled(by_epoch: dict[int, list[Layered]], epochs: Sequence[int], network: str) -> Layered:
    """The mean over training of one network's CKA with its last epoch."""
    of_network = [next(one for one in by_epoch[epoch] if one.network == network) for epoch in epochs[:-1]]
    course = np.stack([*(one.values for one in of_network), np.ones_like(of_network[0].values)])
    return replace(of_network[0], values=indices.area_under(course, epochs))


def _successes(rows: pd.DataFrame, kind: str) -> str:
    """How often the attack succeeds, in words."""
    measured = rows[(rows["claim"] == ADVERSARIAL) & (rows["quantity"] == "attack_success") & (rows["unit_2"] == kind)]
    means = measured.groupby("arm")["value"].mean()
    return "succeeds: " + ", ".join(f"{arm} {means[arm]:.0%}" for arm in DRAWN if arm in means.index)


def _epochs(rows: pd.DataFrame) -> str:
    measured = rows[(rows["claim"] == OVERFITTING) & (rows["quantity"] == "epochs") & (rows["arm"] == "robust")]
    seeds = []
    for seed, frame in measured.groupby("seed"):
        epochs = frame.set_index("unit_2")["value"].astype(int)
        seeds.append(f"seed {seed}: best {epochs['best']}, last {epochs['last']}, before {epochs['before_1']} to {epochs['before_2']}")
    return "epochs of " + "; ".join(seeds)
