"""One cue alone, a cue destroyed, and corruptions: what is left of the images that all networks of an architecture had right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.data import distort
from reprolib.errors import MissingData
from reprolib.findings.shape_bias import stimuli as shown
from reprolib.findings.shape_bias.asking import CONFLICT, MARGINS, Question, answered, committed, rows_of
from reprolib.findings.shape_bias.networks import ARMS, CONTROLS, IN_FULL, OWN, Nets, only
from reprolib.findings.shape_bias.stimuli import Stimuli
from reprolib.measures.perceptual import high_frequency_fraction
from reprolib.models.networks import Network
from reprolib.study import Study

Distortions = Mapping[str, Callable[[Tensor], Tensor]]
"""Name -> a function from images (n, c, h, w) in [0, 1] to such images."""

SCRAMBLED, WITHOUT_TEXTURE, CORRUPTED = "SHP-3", "SHP-4", "SHP-10"
"""Claims under which rows are kept."""
CL_SEEDS = range(3)  # of both arms, whose common images the list holds
OF_CONTROLS = ("scrambled_2", "shape_neutral")  # variants that control networks and margin sets are asked about
LOSSES = ("high", "high_minus_low")


def common_list(right: Mapping[str, Sequence[tuple[int, Tensor]]]) -> tuple[Tensor, str]:
    """(indices of the images that every network has right, hash of the list): one list for all networks of an architecture.

    right: arm -> (seed, whether each clean image is right (n,)) of its networks; seeds of `CL_SEEDS` in the two arms count.
    """
    counted = [of for arm in ARMS for seed, of in right.get(arm, ()) if seed in CL_SEEDS]
    index = torch.stack(counted).all(dim=0).nonzero().flatten() if counted else torch.zeros(0, dtype=torch.long)
    return index, store.content_key({"common list": index.tolist()})[:8]


def distorted(study: Study, compared: Mapping[str, Nets], question: Question, distortions: Distortions) -> pd.DataFrame:
    """Rows of distorted images: "right@<name>" (reached where the clean image is right), "lost@<family>" of corruptions, on the list's images.

    And, of all images, "accuracy@<name>" as one number a network, and "a_shape", "a_texture": chance-corrected means over the single cues.
    Both arms are asked everything, other networks what their controls and trends ask. unit_2 holds the hash of the list.
    """
    if not study.can_measure:
        return pd.DataFrame()
    frames = []
    for at, nets in compared.items():
        if at != OWN and at not in MARGINS:
            continue
        images = shown.clean(study, at)
        variants = {name: images.shown(change(images.x)) for name, change in distortions.items() if at == OWN or name in OF_CONTROLS}
        variants |= {
            name: shown.variant(study, name, at) for name in study.settings.values.get("single", ()) if at == OWN or name in OF_CONTROLS
        }
        frames += _of_set(study, nets, question, images, variants, at)
    return pd.concat([*frames, *_outlines(study, compared[OWN], question)], ignore_index=True)


def spectral_shares(study: Study, strengths: Mapping[str, Sequence[int]]) -> pd.DataFrame | None:
    """What the notebook tells of corruptions: the share of the energy of the change above .25 cycles a pixel, a line a family.

    None, which a notebook does not show, without images or corruptions.
    """
    if not study.can_measure or not strengths:
        return None
    x = shown.clean(study).x
    shares = {
        family: [float(high_frequency_fraction(_corrupted(x, family, k) - x).mean()) for k in steps] for family, steps in strengths.items()
    }
    table = [(family, "low" if family in distort.LOW_FREQUENCY else "high", sum(of) / len(of)) for family, of in shares.items()]
    return pd.DataFrame(table, columns=["family", "called", "share of energy above .25 cycles a pixel"]).round(3)


def _of_set(study: Study, nets: Nets, question: Question, images: Stimuli, variants: Mapping[str, Stimuli], at: str) -> list[pd.DataFrame]:
    chosen = only(nets, *IN_FULL, *CONTROLS)
    clean = {network.sha256: found["right"][0].bool() for _, network, found in answered(study, chosen, question, images)}
    seeds = {role: [(network.card["description"]["seed"], clean[network.sha256]) for network in chosen[role]] for role in chosen}
    index, key = _committed_list(study.rows, at) if study.only_mine else common_list(seeds)
    units, frames = [f"{k:04d}" for k in index.tolist()], []
    right: dict[tuple[str, str], Tensor] = {}
    for name, stimuli in variants.items():
        trend = (
            {role: of for role, of in nets.items() if role.startswith("robust_")} if name in study.settings.values.get("single", ()) else {}
        )
        asked = only(nets, *IN_FULL) | trend | (only(nets, *CONTROLS) if name in OF_CONTROLS else {})
        for role, network, found in answered(study, asked, question, stimuli):
            right[network.sha256, name] = found["right"][0]
            frames.append(_summary(f"accuracy@{name}{at}", role, network, found["right"][0].mean(), _claim(name)))
            if network.sha256 in clean and not shown.is_of_texture(name):
                values, reached = found["right"][0][index], clean[network.sha256][index]
                frames.append(rows_of(_claim(name), f"right@{name}{at}", role, network, values, reached, units, f"CL {key}"))
    if at == OWN:
        frames += _single_cues(study, nets, right, len(images.shapes))
        frames += _corruptions(study, chosen, question, images, clean, index, key)
    return frames


def _committed_list(rows: pd.DataFrame, at: str) -> tuple[Tensor, str]:
    """What `common_list` gave when the committed rows were measured, by their units."""
    of = rows[(rows["claim"] == SCRAMBLED) & (rows["quantity"] == f"right@scrambled_2{at}") & (rows["arm"] == ARMS[0])]
    first = of[of["network"] == of["network"].min()]
    return torch.tensor(first["unit"].astype(int).tolist(), dtype=torch.long), str(first["unit_2"].min()).removeprefix("CL ")


def _single_cues(study: Study, nets: Nets, right: Mapping[tuple[str, str], Tensor], n_classes: int) -> list[pd.DataFrame]:
    """a_shape, a_texture of the networks that were asked every single cue: (accuracy - 1/K)/(1 - 1/K), mean over variants."""
    names = study.settings.values.get("single", ())
    cues = {"a_shape": [name for name in names if not shown.is_of_texture(name) and name != "shape_flat"]}
    cues["a_texture"] = [name for name in names if shown.is_of_texture(name)]
    frames = []
    for role, network in ((role, network) for role, networks in nets.items() for network in networks):
        for quantity, variants in cues.items():
            found = [right[network.sha256, name].mean() for name in variants if (network.sha256, name) in right]
            if found and len(found) == len(variants):
                accuracy = torch.stack(found).mean()
                frames.append(_summary(quantity, role, network, (accuracy - 1 / n_classes) / (1 - 1 / n_classes), CONFLICT))
    return frames


def _corruptions(
    study: Study, nets: Nets, question: Question, images: Stimuli, clean: Mapping[str, Tensor], index: Tensor, key: str
) -> list[pd.DataFrame]:
    """Rows "lost@<family>": the share of the strengths at which an image of the list is wrong; high: mean of the high-frequency families."""
    lost: dict[str, dict[str, Tensor]] = {}
    frames, units = [], [f"{k:04d}" for k in index.tolist()]
    strengths = study.settings.values.get("corruptions", {})
    for family, steps in strengths.items():
        for strength in steps:
            for role, network, found in answered(study, nets, question, images.shown(_corrupted(images.x, family, strength))):
                wrong = 1 - found["right"][0]
                lost.setdefault(network.sha256, {}).setdefault(family, torch.zeros(len(wrong)))
                lost[network.sha256][family] += wrong / len(steps)
                frames.append(_summary(f"accuracy@{family}_{strength}", role, network, 1 - wrong.mean(), CORRUPTED))
    high = [family for family in strengths if family not in distort.LOW_FREQUENCY]
    low = [family for family in strengths if family in distort.LOW_FREQUENCY]
    for role, network in ((role, network) for role, networks in nets.items() for network in networks) if high and low else ():
        of = lost[network.sha256]
        of["high"] = torch.stack([of[family] for family in high]).mean(dim=0)
        of["high_minus_low"] = of["high"] - torch.stack([of[family] for family in low]).mean(dim=0)
        wanted = of if role in IN_FULL else {name: of[name] for name in (*LOSSES, *low)}
        for name, values in wanted.items():
            reached = clean[network.sha256][index]
            frames.append(rows_of(CORRUPTED, f"lost@{name}", role, network, values[index], reached, units, f"CL {key}"))
    return frames


def _outlines(study: Study, nets: Nets, question: Question) -> list[pd.DataFrame]:
    """Rows "accuracy@silhouettes" and "accuracy@edges", both of photographs' categories, of both arms; committed ones where they are not here."""
    try:
        sets = shown.outlines(study)
    except MissingData as error:
        print(f"{error}. Their rows are the committed ones.")
        kept = committed(study, WITHOUT_TEXTURE)
        return [kept[kept["quantity"].isin(["accuracy@silhouettes", "accuracy@edges"])]] if len(kept) else []
    return [
        rows_of(
            WITHOUT_TEXTURE, f"accuracy@{name}", role, network, found["right"][0], True, [f"{k:04d}" for k in range(len(stimuli.x))], ""
        )
        for name, stimuli in sets.items()
        for role, network, found in answered(study, only(nets, *IN_FULL), question, stimuli)
    ]


def _corrupted(x: Tensor, family: str, strength: int) -> Tensor:
    """Images under a corruption; the noise of an image is that of its number."""
    return distort.corrupt(x, family, strength, range(len(x)))


def _claim(name: str) -> str:
    return WITHOUT_TEXTURE if name.startswith(("shape_", "silhouette", "contour")) else SCRAMBLED


def _summary(quantity: str, role: str, network: Network, value: Tensor, claim: str) -> pd.DataFrame:
    """One number of a network, over all images."""
    return rows_of(claim, quantity, role, network, value[None], True, ["all"], "")
