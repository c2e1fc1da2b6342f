"""Is what a unit detects used? Images turned wrong without the strongest detectors of one layer, and without as many random channels.

One layer at a time: all at once leave nothing to compare. Images are those that every standard and robust network has right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from reprolib import store
from reprolib.boundary import checked_images, checked_labels
from reprolib.data.images import Images, pick
from reprolib.errors import BadInput, nearest
from reprolib.findings.simplicity_biases.kinds import pixels
from reprolib.judging.tidy import rows_of
from reprolib.models.layers import eval_mode, fold_batch_norm, logits_of
from reprolib.models.networks import MINE, ConvBN, Network
from reprolib.study import Study

CLAIM = "SIM-8"
ARMS = ("standard", "robust")
LABELS = ("texture", "object")
MOST = 4  # one channel in so many may be removed
N_DRAWS = 20
COLUMNS = ["layer", "unit", "category", "iou"]
POOL = 4  # test images looked through for each one of the common list
BATCH = (50, 500)  # images at a time, whose maps are held, on a CPU and on a GPU
BAND = {"low": 0.05, "high": 0.95}  # quantiles of the random draws, drawn in a figure


@dataclass(frozen=True)
class Drop:
    """What removal does to n images, in the layers that have any such detector: 1 or 0 an image and layer.

    removed: layer -> numbers of its channels, strongest detectors first (none where it has no detector). wrong: (layers, n) whether an
    image is wrong without them. random: (layers, draws, n) without as many random channels. Layers are those with detectors, in order.
    """

    removed: Mapping[str, list[int]]
    wrong: Tensor
    random: Tensor

    @property
    def drop(self) -> Tensor:
        """(n,): turned wrong by removal minus the mean over random draws, mean over layers; 0 where no layer has such a detector."""
        return self.raw - self.at_random

    @property
    def raw(self) -> Tensor:
        """(n,): turned wrong by removal, mean over layers."""
        return self.wrong.double().sum(dim=0) / max(len(self.wrong), 1)

    @property
    def at_random(self) -> Tensor:
        """(n,): turned wrong by random channels, mean over draws and layers."""
        return self.random.double().mean(dim=1).sum(dim=0) / max(len(self.random), 1)


Question = Callable[[Network, Images, pd.DataFrame], Mapping[str, Drop]]
"""What is asked of one network: network, images, its detectors -> {"texture": ..., "object": ..., "texture, by mean": ...}."""


def ablations(
    study: Study, nets: Mapping[str, Sequence[Network]], question: Question, detectors: Callable[[Network], pd.DataFrame]
) -> pd.DataFrame:
    """Rows of SIM-8, of both arms and of the reader's own where it is a `Network`.

    Of each image drop@<label>, random_drop@<label>, texture_drop_raw and object_drop_raw, and mean_drop@texture, whose channels are their mean
    in the place of 0; of a network without such a detector 0, not reached. Of each layer removed@<label>, and for a figure the share of images
    turned wrong: by_layer@<label>, and random_by_layer@<label> with unit_2 "mean", "low" and "high" (90 % of the draws).
    detectors: of a network, as `drop` takes them.
    """
    if not study.can_measure:
        return pd.DataFrame()
    images, index = common_images(study, nets)
    key = store.content_key({"common list": index})[:8]
    units = [f"{k:04d}" for k in index]
    frames: list[pd.DataFrame] = []
    for role, network in study.each({role: of for role, of in nets.items() if role in (*ARMS, MINE)}):
        inner = getattr(network, "model", network) if role == MINE else network
        if not isinstance(inner, Network):
            print(f"{network.card['name']} loses no channel: that needs a Network, whose maps can be edited on their way.")
            continue
        of = detectors(network).sort_values(["layer", "unit"], ignore_index=True)

        def compute(network: Network = network, inner: Network = inner, of: pd.DataFrame = of) -> dict[str, Tensor]:
            study.report(f"{network.card['name']}: {question.__name__}, {len(images)} images")
            return {f"{name}|{part}": one for name, found in question(inner, images, of).items() for part, one in _packed(found).items()}

        described = {"network": network.sha256, "data": images.sha256, "detectors": of[COLUMNS].to_csv(index=False, float_format="%.6g")}
        kept = store.cache("ablation", described, compute, question)
        for name in sorted({one.partition("|")[0] for one in kept}):
            found = _unpacked({one.partition("|")[2]: value for one, value in kept.items() if one.startswith(f"{name}|")})
            frames += _rows(role, network, name, found, units, f"CL {key}")
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def common_images(study: Study, nets: Mapping[str, Sequence[Network]]) -> tuple[Images, list[int]]:
    """(the first `n_ablation` test images that every standard and robust network has right, their numbers).

    Where the reader's own network alone is measured, those of the committed rows. Raises BadInput where there is no such image.
    """
    source, n = study.images("test"), study.settings.values["n_ablation"]
    if study.only_mine:
        rows = study.rows[(study.rows["claim"] == CLAIM) & (study.rows["quantity"] == "drop@texture")]
        index = torch.tensor(sorted({int(unit) for unit in rows["unit"]}), dtype=torch.long)
    else:
        looked = pick(source, torch.arange(min(POOL * n, len(source))))
        right = [_right(study, network, looked) for arm in ARMS for network in nets.get(arm, ())]
        index = torch.stack(right).all(dim=0).nonzero().flatten()[:n] if right else torch.zeros(0, dtype=torch.long)
    if not len(index):
        raise BadInput("no image is right in every standard and robust network, so none can turn wrong: look at the networks' accuracies")
    return pick(source, index), index.tolist()


def drop(
    network: Network, images: Images, detectors: pd.DataFrame, *labels: str, by_mean: bool = False, n_draws: int = N_DRAWS
) -> dict[str, Drop]:
    """Remove the strongest detectors of a label, at most a quarter of a layer's channels, layer by layer, and as many random channels.

    images: which the network should have right. detectors: columns layer, unit (number of the channel), category, iou; a row a detector.
    by_mean: channels are replaced by their mean over all images and positions, else by 0. Draws are of all channels of the layer, the
    same ones for all networks, labels and calls. Nothing of the network changes. Returns label -> what its removal does.
    Raises BadInput for an unknown layer or channel.
    """
    x, y = checked_images(pixels(images.x, network)), checked_labels(images.y, len(images.x))
    widths = {name: value.shape[1] for name, value in fold_batch_norm(network).maps(x[:1])}
    _check_detectors(detectors, widths)
    removed = {label: {layer: strongest(detectors, layer, label, width) for layer, width in widths.items()} for label in labels}
    wanted = {
        (label, layer): [tuple(channels), *_draws(k, widths[layer], len(channels), n_draws)]
        for label, of in removed.items()
        for k, (layer, channels) in enumerate(of.items())
        if channels
    }
    sets = {layer: list(dict.fromkeys(one for label in labels for one in wanted.get((label, layer), ()))) for layer in widths}
    wrong = turned_wrong(network, x, y, {layer: of for layer, of in sets.items() if of}, by_mean)  # labels share draws
    found = {}
    for label, of in removed.items():
        layers = [layer for layer, channels in of.items() if channels]
        rows = [wrong[layer][[sets[layer].index(one) for one in wanted[label, layer]]] for layer in layers]
        stacked = torch.stack(rows) if rows else torch.zeros(0, 1 + n_draws, len(x), dtype=torch.bool)
        found[label] = Drop(of, stacked[:, 0], stacked[:, 1:])
    return found


def strongest(detectors: pd.DataFrame, layer: str, label: str, width: int) -> list[int]:
    """Numbers of the channels of a layer that detect a category, by falling IoU, at most a quarter of its `width` channels (at least one)."""
    of = detectors[(detectors["layer"] == layer) & (detectors["category"] == label)]
    return of.sort_values(["iou", "unit"], ascending=[False, True], kind="stable")["unit"].astype(int).tolist()[: max(width // MOST, 1)]


def _right(study: Study, network: Network, images: Images) -> Tensor:
    def compute() -> dict[str, Tensor]:
        study.report(f"{network.card['name']}: classes of {len(images)} images")
        given = logits_of(fold_batch_norm(network), pixels(images.x, network)).argmax(dim=1).cpu()
        return {"right": given == images.y}

    return store.cache("right", {"network": network.sha256, "data": images.sha256}, compute)["right"]


def turned_wrong(
    network: Network, x: Tensor, y: Tensor, sets: Mapping[str, Sequence[Sequence[int]]], by_mean: bool = False
) -> dict[str, Tensor]:
    """Layer -> (sets, n) bool: whether each image is given another class than y while a set of that layer's channels is 0, or its mean.

    sets: layer -> sets of channel numbers. A set without channels: wrong as it stands. What lies before the layer runs once for all sets.
    Works on a copy in eval mode. by_mean: the mean of a channel over all images and positions.
    """
    copy = fold_batch_norm(network).to(memory_format=torch.channels_last)  # the same function, a fifth to two fifths faster on a CPU
    means = _means(copy, x, sets) if by_mean else {}
    found: dict[str, list[Tensor]] = {layer: [] for layer in sets}
    size = BATCH[x.is_cuda]
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False), eval_mode(copy):
        for images, labels in zip(x.split(size), y.to(x.device).split(size), strict=True):
            resumed = _Resumed(copy, images)
            for layer in (name for name in network.layer_names if name in sets):
                answers = [resumed.without(layer, channels, means.get(layer)).argmax(dim=1) != labels for channels in sets[layer]]
                found[layer].append(torch.stack(answers).cpu())
            resumed.undo()
    return {layer: torch.cat(parts, dim=1) for layer, parts in found.items()}


class _Resumed:
    """A network on one batch of images whose modules, once a layer's map is made, give again what they gave: only what follows is run.

    Maps are edited where they are yielded, so that what follows takes the edited ones.
    """

    def __init__(self, network: Network, x: Tensor) -> None:
        self.network, self.x = network, x
        self.made: dict[str, list[tuple[nn.Module, Tensor]]] = {}  # before each layer's map, since the one before it
        self.kept: list[nn.Module] = []
        since: list[tuple[nn.Module, Tensor]] = []
        parts = [part for part in network.modules() if isinstance(part, (ConvBN, nn.Conv2d, nn.Linear)) or part is network.normaliser]
        calls = [part.register_forward_hook(lambda part, _, given: since.append((part, given))) for part in parts]
        for name, _ in network.maps(x):
            self.made[name], since = since, []
        for call in calls:
            call.remove()
        times = Counter(part for made in self.made.values() for part, _ in made)
        self.made = {name: [one for one in made if times[one[0]] == 1] for name, made in self.made.items()}  # shared ones run again

    def without(self, layer: str, channels: Sequence[int], means: Tensor | None) -> Tensor:
        """Logits while channels of a layer are 0, or their means (c,). Layers must be asked for in the order of execution."""
        for name in list(self.made) if layer in self.made else ():
            for part, given in self.made.pop(name):
                part.forward = lambda _, given=given: given
                self.kept.append(part)
            if name == layer:
                break
        maps = type(self.network).maps

        def edited(x: Tensor, straight_through: bool = False) -> Iterator[tuple[str, Tensor]]:
            for name, value in maps(self.network, x, straight_through):
                if name == layer:
                    chosen = torch.as_tensor(channels, dtype=torch.long, device=value.device)
                    value[:, chosen] = 0.0 if means is None else means[chosen].view(1, -1, 1, 1).to(value)
                yield name, value

        self.network.maps = edited  # type: ignore[method-assign]
        return self.network(self.x)

    def undo(self) -> None:
        """Modules run again."""
        for part in self.kept:
            vars(part).pop("forward", None)
        vars(self.network).pop("maps", None)


def _means(network: Network, x: Tensor, layers: Mapping[str, Any]) -> dict[str, Tensor]:
    """Layer -> mean of each channel over all images and positions (c,)."""
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        parts = [
            {n: v.double().mean(dim=(0, 2, 3)) * len(some) for n, v in network.maps(some) if n in layers}
            for some in x.split(BATCH[x.is_cuda])
        ]
    return {layer: torch.stack([part[layer] for part in parts]).sum(dim=0) / len(x) for layer in layers}


def _draws(layer: int, width: int, n: int, n_draws: int) -> list[tuple[int, ...]]:
    """n_draws sets of n of a layer's channels, without repetition within a set; equal for equal arguments."""
    generator = torch.Generator().manual_seed(10_000 * layer + n)
    return [tuple(torch.randperm(width, generator=generator)[:n].tolist()) for _ in range(n_draws)]


def _check_detectors(detectors: pd.DataFrame, widths: Mapping[str, int]) -> None:
    if missing := [name for name in COLUMNS if name not in detectors]:
        raise BadInput(f"detectors have no column {', '.join(missing)}: give a frame with {', '.join(COLUMNS)}, a row a detector")
    for layer, units in detectors.groupby("layer")["unit"]:
        if layer not in widths:
            raise BadInput(
                f"detectors are of layer {layer!r}, which the network does not have; allowed: {', '.join(widths)}{nearest(str(layer), widths)}"
            )
        if not units.between(0, widths[str(layer)] - 1).all() or units.duplicated().any():
            raise BadInput(f"detectors of {layer} have units {sorted(units)}: each at most once, from 0 to {widths[str(layer)] - 1}")


def _packed(found: Drop) -> dict[str, Tensor]:
    channels = {f"removed|{layer}": torch.tensor(of, dtype=torch.long) for layer, of in found.removed.items()}
    return {"wrong": found.wrong, "random": found.random, **channels}


def _unpacked(kept: Mapping[str, Tensor]) -> Drop:
    removed = {name.partition("|")[2]: of.tolist() for name, of in kept.items() if name.startswith("removed|")}
    return Drop(removed, kept["wrong"], kept["random"])


def _rows(role: str, network: Network, name: str, found: Drop, units: Sequence[str], key: str) -> Iterator[pd.DataFrame]:
    label, _, by_mean = name.partition(", ")
    has_any = len(found.wrong) > 0

    def made(quantity: str, unit: Sequence[str], value: Tensor, unit_2: str, reached: bool = True) -> pd.DataFrame:
        return rows_of(CLAIM, quantity, role, network, unit, value, reached, unit_2)

    if by_mean:
        yield made(f"mean_drop@{label}", units, found.drop, key, has_any)
        return
    for quantity, values in ((f"drop@{label}", found.drop), (f"random_drop@{label}", found.at_random), (f"{label}_drop_raw", found.raw)):
        yield made(quantity, units, values, key, has_any)
    yield made(f"removed@{label}", list(found.removed), torch.tensor([len(of) for of in found.removed.values()]), "")
    if not has_any:
        return
    layers = [layer for layer, of in found.removed.items() if of]
    yield made(f"by_layer@{label}", layers, found.wrong.double().mean(dim=1), "")
    shares = found.random.double().mean(dim=2)  # (layers, draws)
    summaries = {"mean": shares.mean(dim=1), **{word: shares.quantile(at, dim=1) for word, at in BAND.items()}}
    for word, value in summaries.items():
        yield made(f"random_by_layer@{label}", layers, value, word)
