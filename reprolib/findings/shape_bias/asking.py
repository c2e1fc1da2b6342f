"""Every network is asked about every stimulus once: answers and images got right become tidy rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.errors import BadInput, MissingData
from reprolib.findings.shape_bias import stimuli as shown
from reprolib.findings.shape_bias.judging import FAMILIES
from reprolib.findings.shape_bias.networks import ARMS, CONTROLS, IN_FULL, OWN, Nets, only
from reprolib.findings.shape_bias.stimuli import Stimuli
from reprolib.judging.tidy import identity
from reprolib.measures.quantities import LEAST_ROWS
from reprolib.models.external import CERTIFIED, PAIR
from reprolib.models.external import CLAIM as EXTERNAL
from reprolib.models.external import networks as published
from reprolib.models.layers import fold_batch_norm
from reprolib.models.networks import Network
from reprolib.study import Study

Answer = Tensor | tuple[Tensor, Tensor]
Question = Callable[[Network, Stimuli], Mapping[str, Answer]]
"""What is asked of one network: {quantity: values (n,), or values and whether each was reached}."""

CONFLICT, GRATINGS = "SHP-1", "SHP-8"
"""Claims under which rows are kept; claims.toml says which claims read them."""
MARGINS = ("@1:1", "@1:2")
DECIMALS = 3  # of graded preferences


def answered(
    study: Study, nets: Nets, question: Question, stimuli: Stimuli
) -> Iterator[tuple[str, Network, dict[str, tuple[Tensor, Tensor]]]]:
    """(role, network, quantity -> values and whether reached), network by network; kept under the network, the stimuli and the question's code.

    Raises BadInput for values that are not one finite number a stimulus.
    """
    key, there = stimuli.key, stimuli.on(study.device)
    for role, network in study.each(nets):

        def compute(network: Network = network) -> dict[str, Tensor]:
            study.report(f"{network.card['name']}: {question.__name__}, {len(there.x)} images")
            with torch.no_grad():
                given = question(fold_batch_norm(network), there)
            pairs = {name: of if isinstance(of, tuple) else (of, torch.ones_like(of)) for name, of in given.items()}
            return {
                f"{name}{part}": one.cpu().float() for name, pair in pairs.items() for part, one in zip(("", "|reached"), pair, strict=True)
            }

        kept = store.cache("asked", {"network": network.sha256, "stimuli": key}, compute, question)
        for name, values in kept.items():
            if values.shape != (len(there.x),) or not bool(values.isfinite().all()):
                raise BadInput(
                    f"{question.__name__} gives {name.partition('|')[0]!r} of shape {tuple(values.shape)} for {len(there.x)} images: "
                    "one finite number an image is needed"
                )
        yield role, network, {name: (kept[name], kept[f"{name}|reached"].bool()) for name in kept if "|" not in name}


def rows_of(
    claim: str,
    quantity: str,
    role: str,
    network: Network,
    values: Tensor,
    reached: Tensor | bool,
    units: Sequence[str],
    names: Sequence[str] | str,
) -> pd.DataFrame:
    """Tidy rows of one network, a row a unit; names: what stands in unit_2."""
    told = {
        "claim": claim,
        "quantity": quantity,
        **identity(role, network),
        "unit": list(units),
        "unit_2": names,
        "value": values.double().numpy(),
    }
    return pd.DataFrame({**told, "reached": reached if isinstance(reached, bool) else reached.numpy()})


def conflicts(study: Study, compared: Mapping[str, Nets], question: Question) -> pd.DataFrame:
    """Rows of stimuli whose cues conflict, of every network; committed ones where photographs of them are not here.

    Under SHP-1, on gratings under SHP-8; others' networks under "external". Of all that is asked, rows hold what a claim or a figure reads.
    """
    if not study.can_measure:
        return pd.DataFrame()
    try:
        sets = shown.conflicts(study)
    except MissingData as error:
        print(f"{error}. Their rows are the committed ones.")
        return committed(study, CONFLICT, EXTERNAL)
    frames = []
    for at, nets in compared.items():
        stimuli = sets.get(at, sets[OWN])
        frames += _of_conflict(study, nets, question, stimuli, CONFLICT, at, at == OWN, at == OWN or at in MARGINS)
        if at == OWN:
            frames += _jointly(frames) + _families(frames, stimuli)
    if "@10" in sets:
        frames += _of_conflict(study, compared[OWN], question, sets["@10"], CONFLICT, "@10")
        frames += [*external(study, question, sets)]
    for at, stimuli in shown.gratings(study).items():
        nets = only(compared.get(at, {}), *IN_FULL, *CONTROLS) if at == OWN or at in MARGINS else {}
        frames += _of_conflict(study, nets, question, stimuli, GRATINGS, at, is_graded=True)
    return pd.concat(frames, ignore_index=True)


def external(study: Study, question: Question, sets: Mapping[str, Stimuli]) -> Iterator[pd.DataFrame]:
    """Rows of two pairs that others trained, on the original stimuli; committed ones where a pair's files are not here."""
    for pair in () if study.only_mine else (PAIR, CERTIFIED):
        there = published(study.device, pair)
        for at in (OWN, "@10") if there else ():
            yield from _of_conflict(study, {arm: [network] for arm, network in there.items()}, question, sets[at], EXTERNAL, at)
        if not there:
            kept = committed(study, EXTERNAL)
            yield kept[kept["recipe"].isin([one.recipe for one in pair.values()])]


def committed(study: Study, *claims: str) -> pd.DataFrame:
    """Committed rows of some claims; none of a run with a turned knob, and none where there are none."""
    if study.settings.overridden or not (study.committed / "rows.csv.gz").exists():
        return pd.DataFrame(columns=["claim", "recipe"])
    rows = study.committed_rows()
    return rows[rows["claim"].isin(claims)]


def _of_conflict(
    study: Study, nets: Nets, question: Question, stimuli: Stimuli, claim: str, at: str, in_full: bool = False, is_graded: bool = False
) -> list[pd.DataFrame]:
    """Rows of one set of stimuli: answers, and where it is asked graded preference, of the two arms in full."""
    names, units, frames = stimuli.names, _units(len(stimuli.x)), []
    for role, network, found in answered(study, nets, question, stimuli):
        of_arm = in_full and role in ARMS
        wanted = {"answers": True, "graded": is_graded, "graded_raw": of_arm, "answers_colour": of_arm and stimuli.hue.ndim}
        for name, (values, reached) in found.items():
            if wanted.get(name, True):
                values = (values * 10**DECIMALS).round() / 10**DECIMALS
                frames.append(rows_of(claim, f"{name}{at}", role, network, values, reached, units, names))
    return frames


def _jointly(frames: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Rows "answers@both": of the stimuli that every network of both arms answered by a cue; none where they are too few for a ratio."""
    of_arms = [one for one in frames if one["quantity"].iloc[0] == "answers" and one["arm"].iloc[0] in ARMS]
    if not of_arms:
        return []
    everyone = pd.concat([one["reached"] for one in of_arms], axis=1).all(axis=1).to_numpy()
    return [one[everyone].assign(quantity="answers@both") for one in of_arms] if everyone.sum() >= LEAST_ROWS else []


def _families(frames: Sequence[pd.DataFrame], stimuli: Stimuli) -> list[pd.DataFrame]:
    """Rows "answers@checker" and so on: of both arms, by the family of the texture, where the set has several."""
    columns = {family: torch.tensor([name in textures for name in stimuli.textures]) for family, textures in FAMILIES.items()}
    families = {family: mask[stimuli.texture].numpy() for family, mask in columns.items() if mask.any()}
    if len(families) < 2:
        return []
    of_arms = [one for one in frames if one["quantity"].iloc[0] == "answers" and one["arm"].iloc[0] in IN_FULL]
    return [one[chosen].assign(quantity=f"answers@{family}") for one in of_arms for family, chosen in families.items()]


def _units(n: int) -> list[str]:
    return [f"{k:04d}" for k in range(n)]
