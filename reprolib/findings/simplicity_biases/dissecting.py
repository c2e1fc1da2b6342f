"""Which concept each hidden unit detects, of the scenes' own and of random masks: the rows of SIM-4 and SIM-5."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.data import scenes, shapetexture
from reprolib.figures import style
from reprolib.findings.simplicity_biases.rows import IN_FULL, names
from reprolib.judging.tidy import rows_of
from reprolib.measures import dissection
from reprolib.measures.dissection import DETECTS, QUANTILE, Overlaps
from reprolib.models.layers import features, fold_batch_norm
from reprolib.models.networks import MINE, Network
from reprolib.study import Study

LABELS, VARIETY = "SIM-4", "SIM-5"
LOW = ("colour", "texture")
WORLD = "shapetexture"  # of scales that have none of their own
BATCH = 100
N_DRAWS = 200
IOUS, QUANTILES = (0.02, 0.03, 0.04, 0.06, 0.08, 0.1), (0.001, 0.002, 0.005, 0.01, 0.02)
IN_SWEEP, LEAST_IN_SWEEP = (
    4,
    200,
)  # one scene in so many is in the sweep of quantiles, but at least so many: five quantiles take five times as long


@dataclass(frozen=True)
class Shown:
    """Scenes x (n, 3, h, w) uint8 and masks (k, n, h, w) bool of k concepts: first those of `names`, then random ones, as many.

    categories: of the names. quantiles, draws (d, n): what `dissection.thresholds` and `dissection.overlaps` are to be asked.
    """

    x: Tensor
    masks: Tensor
    names: tuple[str, ...]
    categories: tuple[str, ...]
    quantiles: tuple[float, ...] = (QUANTILE,)
    draws: Tensor | None = None
    device: str = "cpu"

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Scenes in [0, 1] and their masks, on the device, batch by batch."""
        for x, masks in zip(self.x.split(BATCH), self.masks.split(BATCH, dim=1), strict=True):
            yield x.to(self.device).float() / 255, masks.to(self.device)

    @property
    def is_low(self) -> Tensor:
        """(names,) bool: colours and textures."""
        return torch.tensor([category in LOW for category in self.categories])

    @functools.cached_property
    def key(self) -> str:
        """A hash of the images, the masks and what is asked."""
        digest = hashlib.sha256(self.x.numpy().tobytes())
        digest.update(self.masks.numpy().tobytes())
        return store.content_key({"x": digest.hexdigest(), "names": [*self.names], "draws": 0 if self.draws is None else len(self.draws)})


Question = Callable[[Network, Shown], Mapping[str, Overlaps]]
"""What is asked of one network: its layers' overlaps with the concepts that are shown, at the quantiles and draws that come with them."""


@functools.lru_cache(maxsize=1)
def shown(study: Study) -> Shown:
    """The scenes of the scale's world, or of the laptop's where the scale has photographs, with random masks of the same areas; parts 3 px wide."""
    world = _world(study)
    n = study.settings["n_scenes"]
    rendered = scenes.render(world, range(n))
    concepts = [(category, name, dissection.dilated(mask) if category == "part" else mask) for category, name, mask in rendered.concepts()]
    generator = torch.Generator().manual_seed(0)
    masks = [mask for *_, mask in concepts]
    masks += [scenes.random_masks(mask, generator) for mask in masks]
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=N_DRAWS)
    draws = torch.from_numpy(np.concatenate([np.ones((1, n)), drawn])).float()
    categories, names = tuple(one[0] for one in concepts), tuple(one[1] for one in concepts)
    return Shown(rendered.image, torch.stack(masks), names, categories, draws=draws, device=study.device)


def concepts(study: Study) -> list[tuple[str, str]]:
    """Category and name of every concept, in the order in which rows count them."""
    names = scenes.names_of(_world(study))
    return [(category, name) for category in scenes.CATEGORIES for name in names[category]]


def detectors_of(study: Study) -> Callable[[Network], pd.DataFrame]:
    """A function of a network that gives its detectors, from the study's rows: layer, unit (number), category, iou."""
    categories = [category for category, _ in concepts(study)]

    def of(network: Network) -> pd.DataFrame:
        rows = study.rows[(study.rows["claim"] == LABELS) & (study.rows["network"] == network.sha256[:12])]
        own = rows[(rows["quantity"] == "concept") & rows["reached"]]
        iou = rows[rows["quantity"] == "iou"].set_index("unit")["value"]
        units = own["unit"].str.rpartition(":")
        told = {"layer": units[0], "unit": units[2].astype(int), "category": [categories[int(k)] for k in own["value"]]}
        return pd.DataFrame(told | {"iou": own["unit"].map(iou).to_numpy()}).reset_index(drop=True)

    return of


def table(rows: pd.DataFrame, known: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """What the notebook tells of the detectors: a line an arm, means over its networks.

    live units; detectors of each category; of random masks; share of detectors whose two best IoUs are within 10 %; share of a detector's
    active pixels inside its concept; half-width of the low-level share over scenes, at the thresholds of all scenes.
    """
    own = rows[rows["claim"] == LABELS]
    unit = own[own["quantity"].isin(["concept", "iou", "iou_second", "inside"])]
    wide = unit.pivot_table(index=["arm", "network", "unit"], columns="quantity", values="value").reset_index()
    reached = own[own["quantity"] == "concept"].set_index(["arm", "network", "unit"])["reached"]
    wide["detects"] = reached.reindex(pd.MultiIndex.from_frame(wide[["arm", "network", "unit"]])).to_numpy(dtype=bool)
    lines = []
    for arm in style.in_order(list(wide["arm"])):
        of = wide[wide["arm"] == arm]
        n, detectors = of["network"].nunique(), of[of["detects"]]
        masks = own[(own["arm"] == arm) & (own["quantity"] == "random_iou") & own["reached"]]
        of_category = pd.Series([known[int(k)][0] for k in detectors["concept"]], dtype=str).value_counts()
        line: dict[str, Any] = {"role": style.role(arm).label, "live units": len(of) / n}
        line |= {f"{category} detectors": of_category.get(category, 0) / n for category in scenes.CATEGORIES}
        line |= {
            "of random masks": len(masks) / n,
            "near ties": (detectors["iou"] - detectors["iou_second"] < 0.1 * detectors["iou"]).mean(),
        }
        low, high = (own[(own["arm"] == arm) & (own["quantity"] == f"share_{end}")]["value"].mean() for end in ("low", "high"))
        lines.append(line | {"inside its concept": detectors["inside"].mean(), "share, half-width over scenes": (high - low) / 2})
    return pd.DataFrame(lines).set_index("role").round(3)


def ceilings(study: Study) -> pd.Series[float]:
    """The largest IoU that half a per cent of all pixels can have with a concept, q / p: mean over the concepts of each category."""
    there, known = shown(study), concepts(study)
    area = there.masks[: len(known)].float().mean(dim=(1, 2, 3)).double()
    largest = torch.minimum(area, torch.tensor(QUANTILE)) / area.clamp(min=QUANTILE)
    return pd.Series(largest.numpy(), index=pd.MultiIndex.from_tuples(known))


def dissected(study: Study, nets: Mapping[str, Sequence[Network]], question: Question) -> pd.DataFrame:
    """Rows of SIM-4 and SIM-5 of every network; kept under the network, the scenes and the code. None where nothing can be measured."""
    if not study.can_measure:
        return pd.DataFrame()
    there, frames = shown(study), []
    for role, network in study.each(nets):
        in_full, folded = role in IN_FULL, fold_batch_norm(network)
        if role == MINE and not _keep_large_maps(folded, there):
            continue

        def compute(network: Network = network, folded: Network = folded, in_full: bool = in_full) -> Mapping[str, Tensor]:
            study.report(f"{network.card['name']}: {question.__name__}, {len(there.x)} scenes")
            with torch.no_grad():
                return summary(question, folded, there, in_full)

        key = {"network": network.sha256, "scenes": there.key, "in full": in_full}
        measured_by = functools.partial(_folded_summary, question)
        kept = store.cache("dissected", key, compute, measured_by)
        frames += [*_of_units(role, network, kept, there), *_of_network(role, network, kept, there)]
    if not frames:
        return pd.DataFrame()
    rows = pd.concat(frames, ignore_index=True)
    before = [study.committed_rows()] if study.only_mine else []
    return pd.concat([rows, *concept_counts(rows, smallest_of=pd.concat([rows, *before]))], ignore_index=True)


def _keep_large_maps(network: Network, there: Shown) -> bool:
    """Take from a reader's network (a copy) the layers that have too few positions to be dissected, and say so; whether any is left."""
    sizes = {
        name: one[0, 0].numel() for name, one in features(network, there.x[:1].to(there.device).float() / 255, network.layer_names).items()
    }
    large = [name for name, size in sizes.items() if round(QUANTILE * size * len(there.x), 6) >= dissection.LEAST_ABOVE]
    if small := [name for name in sizes if name not in large]:
        few = f"fewer than {dissection.LEAST_ABOVE} of their positions on {len(there.x)} scenes are strongest ones"
        print(f"{network.card['name']}: not dissected are {', '.join(small)}: {few}.")
    network.layer_names = tuple(large)
    return bool(large)


def _world(study: Study) -> shapetexture.World:
    dataset = study.settings.scale.dataset
    return shapetexture.world_of(dataset if dataset in shapetexture.WORLDS else WORLD, "test")


def summary(question: Question, network: Network, there: Shown, in_full: bool) -> dict[str, Tensor]:
    """What is kept of one network's answer: "<layer>|<what>" of its units, and "share" (draws,), the low-level share with scenes resampled."""
    kept: dict[str, Tensor] = {}
    detectors, low, n_labels = torch.zeros(()), torch.zeros(()), len(there.names)
    answer = question(network, there)
    for layer, of in answer.items():
        own = dissection.labels(of, 0, n_labels)
        live = ~of.thresholds.dead
        rates = dissection.low_share(own.best[0], own.iou[0], there.is_low.to(live.device), live)
        detectors, low = detectors + rates[0].cpu(), low + rates[1].cpu()
        parts = {name: getattr(own, name)[0, 0] for name in ("best", "iou", "second", "second_iou", "inside")}
        parts |= {"random_iou": dissection.labels(of, n_labels).iou[0, 0], "dead": ~live, "skipped": of.thresholds.skipped[0]}
        kept |= {f"{layer}|{name}": part.cpu() for name, part in parts.items()}
    kept["share"] = (low / detectors)[1:]  # not a number where no unit detects anything
    if in_full:
        some = max(len(there.x) // IN_SWEEP, min(len(there.x), LEAST_IN_SWEEP))
        n_positions = min(of.thresholds.n for of in answer.values()) * some // len(there.x)
        quantiles = tuple(q for q in QUANTILES if q * n_positions >= dissection.LEAST_ABOVE)
        labelled = replace(there, x=there.x[:some], masks=there.masks[:n_labels, :some], quantiles=quantiles, draws=None)
        for layer, of in question(network, labelled).items():
            own = dissection.labels(of)
            kept |= {f"{layer}|best@{q}": own.best[j].cpu() for j, q in enumerate(quantiles)}
            kept |= {f"{layer}|iou@{q}": own.iou[j].cpu() for j, q in enumerate(quantiles)}
    return kept


def _folded_summary(question: Question, network: Network, there: Shown, in_full: bool) -> dict[str, Tensor]:
    """What the key of a kept answer knows the code of."""
    return summary(question, fold_batch_norm(network), there, in_full)


def _of_units(role: str, network: Network, kept: Mapping[str, Tensor], there: Shown) -> Iterator[pd.DataFrame]:
    """Rows of one network's live units."""
    for layer, part in _layers(kept).items():
        live = ~part["dead"]
        units = names(layer, live.nonzero().flatten())
        best, iou, random = part["best"][live], part["iou"][live], part["random_iou"][live]
        detects = iou >= DETECTS
        apart = torch.zeros(len(iou), dtype=torch.float64)
        if several := int(detects.sum()) > 1:
            apart[detects] = dissection.variety(best[detects])
        values: dict[str, tuple[Tensor, Tensor | bool]] = {
            "detector": (there.is_low[best] & detects, detects),
            "concept": (best, detects),
            "iou": (iou, True),
            "iou_second": (part["second_iou"][live], True),
            "inside": (part["inside"][live], True),
            "second": (part["second"][live], True),
            "random_iou": (random, random >= DETECTS),
        }
        for quantity, (value, reached) in values.items():
            if quantity == "second" and role not in IN_FULL:
                continue
            yield rows_of(LABELS, quantity, role, network, units, value, reached)
        yield rows_of(VARIETY, "variety", role, network, units, apart, detects & several)
        yield rows_of(VARIETY, "detects", role, network, units, detects)
        yield rows_of(VARIETY, "random_iou", role, network, units, random, random >= DETECTS)
        for quantity in ("dead", "skipped"):
            yield rows_of(LABELS, quantity, role, network, [layer], part[quantity].sum()[None], True)


def _of_network(role: str, network: Network, kept: Mapping[str, Tensor], there: Shown) -> Iterator[pd.DataFrame]:
    """Rows of the network as a whole: the interval over scenes, and both sweeps where they were asked."""
    layers, share = _layers(kept), kept["share"][kept["share"].isfinite()]
    if len(share) > N_DRAWS // 2:
        for quantity, level in (("share_low", 0.025), ("share_high", 0.975)):
            yield rows_of(LABELS, quantity, role, network, ["network"], share.double().quantile(level)[None], True)
    settings = [(f"iou_{iou:g}", "best", "iou", iou) for iou in IOUS]
    turned = {name.partition("@")[2] for name in next(iter(layers.values())) if "@" in name}
    settings += [(f"q_{q}", f"best@{q}", f"iou@{q}", DETECTS) for q in sorted(turned, key=float)]
    for name, best, iou, least in settings if turned else ():
        rates = [dissection.low_share(part[best], part[iou], there.is_low, ~part["dead"], least) for part in layers.values()]
        detectors, low = (float(torch.stack(of).sum()) for of in zip(*rates, strict=True))
        count = sum(int(((part[iou] >= least) & ~part["dead"]).sum()) for part in layers.values())
        at = name.replace("_0.", "_.")
        yield rows_of(LABELS, f"detectors@{at}", role, network, ["network"], torch.tensor([count]), True)
        if count:
            yield rows_of(LABELS, f"low_share@{at}", role, network, ["network"], torch.tensor([low / detectors]), True)


def concept_counts(rows: pd.DataFrame, smallest_of: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Rows of SIM-5 by layer: concepts that the detectors carry, and the number expected in as many as the network with fewest (>= 2) has there."""
    concepts = rows[(rows["claim"] == LABELS) & (rows["quantity"] == "concept")]
    concepts = concepts.assign(layer=concepts["unit"].str.replace(r":\d+$", "", regex=True))
    all_of = smallest_of[(smallest_of["claim"] == LABELS) & (smallest_of["quantity"] == "concept") & (smallest_of["arm"] != MINE)]
    n_of = all_of[all_of["reached"]].assign(layer=all_of.loc[all_of["reached"], "unit"].str.replace(r":\d+$", "", regex=True))
    counts = n_of.groupby(["layer", "arm", "network"]).size()
    fewest = counts[counts >= 2].groupby("layer").min()
    shared = ["arm", "recipe", "architecture", "seed", "network"]
    for (*who, layer), part in concepts.groupby([*shared, "layer"], sort=False):
        carried = part.loc[part["reached"], "value"].astype(int).to_numpy()
        told = {"claim": VARIETY, **dict(zip(shared, who, strict=True)), "unit": layer, "unit_2": "", "reached": True}
        found: list[dict[str, Any]] = [{"quantity": "unique_concepts", "value": float(len(set(carried)))}]
        if 2 <= (size := int(fewest.get(layer, 0))) <= len(carried):
            found.append({"quantity": "rarefied_concepts", "value": dissection.rarefied(carried, size)})
        yield pd.DataFrame([told | one for one in found])


def _layers(kept: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in kept.items():
        layer, bar, what = name.partition("|")
        if bar:
            found.setdefault(layer, {})[what] = value
    return found
