"""Neighbours in every layer: how many agree with a prediction, how usual that is, and what softmax says of the same images.

Every network is asked once: features go through it some layers at a time, and of each layer the neighbours of each class are counted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.errors import BadInput
from reprolib.findings.entanglement import outliers
from reprolib.findings.entanglement.outliers import ADVERSARIAL, CALIBRATION, INDEX, INSIDE, OUTLIER, Sets
from reprolib.judging.tidy import rows_of
from reprolib.measures.diversity import auroc
from reprolib.measures.dknn import p_values
from reprolib.models.grams import POOLED, collect, spatial_mean
from reprolib.models.layers import fold_batch_norm, shrunk
from reprolib.models.mine import Own
from reprolib.models.networks import MINE, Network
from reprolib.study import Study

CLAIM = "ENT-5"
IN_FULL = ("standard", "entangled", MINE)
LOGITS, AVERAGED = "logits", "@averaged"
"""The layer behind the pooled code; behind a map's name: averaged over its positions."""
JUDGED = (INSIDE, OUTLIER)
"""Sets of which the scores are kept that claims ask of the deciding outliers alone."""
N_BINS, N_SCORE_BINS = 15, 20
BATCH = 100
AT_ONCE = 2**28  # features of some layers held at a time: 1 GiB

Counts = dict[str, dict[str, Tensor]]
"""By layer, by set: how many neighbours of each image are of each class, (n, classes)."""


@dataclass(frozen=True)
class Asked:
    """What one network is asked about. x: images (n, c, h, w) by set, uint8 or in [0, 1]; labels: of the set "index"; k: neighbours a layer.

    logits: of every set, (n, classes), when it went through a network.
    """

    x: Mapping[str, Tensor]
    labels: Tensor
    k: int
    logits: dict[str, Tensor] = field(default_factory=dict)

    def through(self, network: Network) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Layer by layer the features (n, d) of every set: maps pooled to at most 4,096 numbers, the pooled code, logits, averaged maps.

        As many layers are held at a time as fit into `AT_ONCE` numbers; for the others the images go through the network again. An averaged
        map is called "<layer>@averaged"; that of the last is the pooled code, and comes once.
        """
        sizes = [len(x) for x in self.x.values()]
        layers = [*network.layer_names, POOLED, LOGITS]
        one = _features(network, next(iter(self.x.values()))[:1], layers)
        for names in _in_groups(layers, {name: sum(sizes) * of.shape[1] for name, of in one.items()}):
            held: dict[str, Tensor] = {}
            at = 0
            for part in (part for x in self.x.values() for part in x.split(BATCH)):
                for name, of in _features(network, part, names).items():
                    if name not in held:
                        held[name] = of.new_empty(sum(sizes), of.shape[1])
                    held[name][at : at + len(part)] = of
                at += len(part)
            for name in [*held]:
                features = dict(zip(self.x, held.pop(name).split(sizes), strict=True))
                if name == LOGITS:
                    self.logits.update(features)
                yield name, features


Question = Callable[[Network, Asked], Counts]
"""What is asked of one network."""


def neighbours(study: Study, nets: Mapping[str, Sequence[Network]], question: Question) -> pd.DataFrame:
    """Rows of ENT-5, which ENT-4 reads too: of standard and entangled networks and the reader's in full, of untrained ones their support.

    question(network, images) -> counts by layer and set, of every set but the index. Images are units: of ordinary ones as many as of the
    deciding outliers. `support`: neighbours of the predicted class, over all hidden layers; `credibility`: the largest p-value,
    `late_credibility` by the last third of the maps, the pooled code and the logits; `softmax`: the log odds of the largest probability,
    which near 1 has no digits left; `energy`: the logsumexp of the logits. reached: the network has the image, before it is attacked,
    right. Kept is what claims ask; what figures draw besides is counted in bins, of all images: `<score>_histogram`, `auroc_<score>`.
    """
    if not study.can_measure:
        return pd.DataFrame()
    sets = outliers.of_scale(study)
    frames: list[pd.DataFrame] = []
    wanted = {role: of for role, of in nets.items() if role in (*IN_FULL, "untrained")}
    for role, network in study.each(wanted):
        if not getattr(network, "has_classes", True):
            continue
        of = sets if role in IN_FULL else sets.only(*JUDGED)
        answer = answered(study, network, of, question)
        frames += _rows(role, network, of, answer, role in IN_FULL, is_first=network is wanted[role][0])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


@dataclass(frozen=True)
class Answer:
    """What a network says: logits (n, classes) and counts (n, classes) by layer, of each set; labels of its sets of ordinary images."""

    logits: Mapping[str, Tensor]
    counts: Counts
    y: Mapping[str, Tensor]

    def stacked(self, layers: Sequence[str], name: str) -> Tensor:
        """Counts of a set, (n, layers, classes) int64."""
        return torch.stack([self.counts[layer][name] for layer in layers], dim=1).long()

    def support(self, layers: Sequence[str], name: str) -> Tensor:
        """Neighbours of the predicted class, (n, layers) int64."""
        counts = self.stacked(layers, name)
        return counts[torch.arange(len(counts)), :, self.logits[name].argmax(dim=1)]

    def credibility(self, layers: Sequence[str], name: str) -> Tensor:
        """The largest p-value, (n,) float64; scores are those of the calibration images with their true labels."""
        scores, asked = (-self.stacked(layers, of).sum(dim=1) for of in (CALIBRATION, name))  # dissenters but for a constant
        own = scores.gather(1, self.y[CALIBRATION][:, None]).flatten()
        return p_values(asked, own.sort().values).amax(dim=1)

    def is_right(self, name: str) -> Tensor:
        """Which images of a set the network has right; of adversarial ones, before they were moved."""
        right = self.logits[INSIDE].argmax(dim=1) == self.y[INSIDE]
        n = len(self.logits[name])
        return right[:n] if name in (INSIDE, ADVERSARIAL) else torch.ones(n, dtype=torch.bool)


def answered(study: Study, network: Network, sets: Sets, question: Question) -> Answer:
    """A network's answer, kept under the network, the sets and the question's code. Raises BadInput for counts that are none."""

    def compute() -> dict[str, Tensor]:
        study.report(f"{network.card['name']}: {question.__name__}, {sum(map(len, sets.images.values())) + sets.attack.n} images")
        return asked(question, network, sets, study.device)

    logits: dict[str, Tensor] = {}
    counts: Counts = {}
    for key, values in store.cache(
        "neighbours", {"network": network.sha256} | sets.describe(), compute, functools.partial(asked, question)
    ).items():
        layer, _, name = key.rpartition("|")
        if layer:
            counts.setdefault(layer, {})[name] = values
        else:
            logits[name] = values
    answer = Answer(logits, counts, {name: of.y for name, of in sets.images.items()})
    _check(answer, network, sets.k, question.__name__)
    return answer


def asked(question: Question, network: Network, sets: Sets, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """What a question gives of one network, "<layer>|<set>" int16, and "|<set>": its logits. BatchNorm is folded, attacks are on the network itself."""
    x = {name: of.x.to(device) for name, of in sets.images.items()}
    if sets.attack.n:
        x[ADVERSARIAL] = sets.adversarial(network, device)
    images = Asked(x, sets.images[INDEX].y.to(device), sets.k)
    folded = fold_batch_norm(network).to(memory_format=torch.channels_last)
    with torch.no_grad():
        counts = question(folded, images)
    found = {f"{layer}|{name}": of.short().cpu() for layer, of_sets in counts.items() for name, of in of_sets.items()}
    logits = {name: images.logits[name] if name in images.logits else _logits(folded, of) for name, of in x.items() if name != INDEX}
    return found | {f"|{name}": of.cpu() for name, of in logits.items()}


def _check(answer: Answer, network: Network, k: int, question: str) -> None:
    """Raise BadInput unless every hidden layer and set has counts (n, classes) that sum to k."""
    for layer in (*network.layer_names, POOLED, LOGITS):
        for name, logits in answer.logits.items():
            of = answer.counts.get(layer, {}).get(name)
            if of is None or of.shape != logits.shape or bool((of.sum(dim=1) != k).any()):
                given = "nothing" if of is None else f"counts of shape {tuple(of.shape)}"
                raise BadInput(
                    f"{question} gives {given} of layer {layer} for {len(logits)} images of {name}: how many of {k} neighbours are of each "
                    f"of {logits.shape[1]} classes is needed"
                )


def _rows(role: str, network: Network, sets: Sets, answer: Answer, in_full: bool, is_first: bool) -> list[pd.DataFrame]:
    maps = network.layer_names
    hidden, late = [*maps, POOLED], [*maps[-max(len(maps) // 3, 1) :], POOLED]
    averaged = [layer for layer in answer.counts if layer.endswith(AVERAGED)] + [POOLED]
    frames = []

    def add(quantity: str, units: Sequence[str], values: Tensor, reached: Tensor | bool = True, unit_2: Sequence[str] | str = "") -> None:
        frames.append(rows_of(CLAIM, quantity, role, network, units, values, reached, unit_2))

    supports = {name: answer.support(hidden, name) for name in (*sets.asked, ADVERSARIAL) if name in answer.logits}
    tells_more = in_full and role != "standard"  # claims ask more of entangled networks
    n_inside = len(sets.images[OUTLIER]) if OUTLIER in supports else None
    scores: dict[str, dict[str, Tensor]] = {"credibility": {}, "softmax": {}}
    for name, support in supports.items():
        kept, right = slice(n_inside if name == INSIDE else None), answer.is_right(name)
        images = [f"{k:04d}" for k in range(len(support[kept]))]
        if name != ADVERSARIAL:
            add(f"support@{name}", images, support.sum(dim=1)[kept], right[kept])
        if not in_full:
            continue
        logits = answer.logits[name].double()
        scores["credibility"][name], scores["softmax"][name] = answer.credibility(hidden, name), _log_odds(logits)
        if name in JUDGED or tells_more:
            add(f"credibility@{name}", images, scores["credibility"][name][kept].round(decimals=3), right[kept])
            add(f"softmax@{name}", images, _rounded(scores["softmax"][name])[kept], right[kept])
        if name in JUDGED:
            add(f"support_pooled@{name}", images, answer.support(averaged, name).sum(dim=1)[kept])
            add(f"support_last_third@{name}", images, answer.support(late, name).sum(dim=1)[kept])
        if name in JUDGED and tells_more:
            add(f"late_credibility@{name}", images, answer.credibility([*late, LOGITS], name)[kept].round(decimals=3), right[kept])
            add(f"energy@{name}", images, _rounded(logits.logsumexp(dim=1))[kept], right[kept])
        if name != INSIDE:
            places = [f"{k:02d}" for k in range(len(hidden))]
            add(f"support_auroc_by_layer@{name}", hidden, _aurocs(supports[INSIDE], support), unit_2=places)
        if is_first and role != MINE:
            for layer in (0, len(maps) // 2, len(maps)):
                shares = histogram(support[:, layer] / sets.k, min(N_BINS, sets.k))
                add(f"support_histogram@{name}", [hidden[layer]] * len(shares), shares, unit_2=[f"{k:02d}" for k in range(len(shares))])
    for score, of_sets in scores.items():
        for name, values in of_sets.items():
            told = values[answer.is_right(name)]
            add(
                f"{score}_histogram@{name}",
                [f"{k:02d}" for k in range(N_SCORE_BINS)],
                histogram(told.sigmoid() if score == "softmax" else told, N_SCORE_BINS),
            )
            inside = of_sets[INSIDE][answer.is_right(INSIDE)]
            if name != INSIDE and len(told) and len(inside):
                add(f"auroc_{score}@{name}", ["all"], _aurocs(inside[:, None], told[:, None]))
    if in_full:
        for quantity, of in calibration(answer.logits[INSIDE], answer.y[INSIDE]).items():
            add(quantity, [*of], torch.tensor([*of.values()]))
    return frames


def calibration(logits: Tensor, y: Tensor) -> dict[str, dict[str, float]]:
    """Of 15 equal bins of the largest softmax probability: mean confidence, accuracy, count; and their expected calibration error.

    logits (n, classes), y (n,). Bins "00" to "14"; of an empty one there is only the count. Source: Guo et al. 2017 (arXiv 1706.04599).
    """
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
    right = (predicted == y).double()
    place = (confidence * N_BINS).ceil().long().clamp(1, N_BINS) - 1
    n = place.bincount(minlength=N_BINS)
    sums = {name: place.bincount(of, N_BINS) for name, of in (("bin_confidence", confidence), ("bin_accuracy", right))}
    ece = float((sums["bin_confidence"] - sums["bin_accuracy"]).abs().sum() / len(y))
    found = {name: {f"{k:02d}": float(of[k] / n[k]) for k in range(N_BINS) if n[k]} for name, of in sums.items()}
    return {"ece": {"all": ece}, **found, "bin_count": {f"{k:02d}": float(n[k]) for k in range(N_BINS)}}


def histogram(shares: Tensor, n_bins: int) -> Tensor:
    """How much of shares (n,) in [0, 1] lies in each of equal bins, the last with 1 in it; zeros where there are none."""
    place = (shares.double() * n_bins + 1e-9).long().clamp(max=n_bins - 1)  # k/n may lie a rounding below its bin
    return place.bincount(minlength=n_bins).double() / max(len(shares), 1)


def _aurocs(inside: Tensor, outside: Tensor) -> Tensor:
    """Column by column the chance that a score (n, columns) inside exceeds one outside, ties by half."""
    both = torch.cat([inside, outside])
    return auroc(both.double(), (torch.arange(len(both)) < len(inside)).long())[:, 1]


def _log_odds(logits: Tensor) -> Tensor:
    """log(p / (1 - p)) of the largest softmax probability: the largest logit less the logsumexp of the others."""
    top = logits.argmax(dim=1, keepdim=True)
    return (logits.gather(1, top)[:, 0]) - logits.scatter(1, top, -torch.inf).logsumexp(dim=1)


def _rounded(values: Tensor) -> Tensor:
    """To 3 significant digits, which order images as well, in fewer bytes."""
    return torch.tensor([float(f"{one:.3g}") for one in values.tolist()], dtype=torch.float64)


def _features(network: Network, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Features (n, d) of the named layers, and their averaged maps, of images (n, c, h, w), uint8 or in [0, 1]."""
    x = x.float() / 255 if x.dtype == torch.uint8 else x
    found = collect(network, x, [name for name in names if name != LOGITS] or [POOLED], reduce=_shrunk)
    features = {name: of for name, (of, _) in found.items() if name in names}
    averaged = {f"{name}{AVERAGED}": mean for name, (_, mean) in found.items() if name in network.layer_names[:-1]}
    if LOGITS in names:
        features[LOGITS] = network(x) if isinstance(network, Own) else network.linear(found[POOLED][0])
    return features | averaged


def _shrunk(value: Tensor) -> tuple[Tensor, Tensor]:
    return shrunk(value).clone(), spatial_mean(value)


def _logits(network: Network, x: Tensor) -> Tensor:
    return torch.cat([_features(network, part, [POOLED, LOGITS])[LOGITS] for part in x.split(BATCH)])


def _in_groups(layers: Sequence[str], numbers: Mapping[str, int]) -> list[list[str]]:
    """The layers in order, in groups of at most `AT_ONCE` numbers; logits stay with the pooled code."""
    groups: list[list[str]] = [[]]
    for layer in layers:
        if groups[-1] and layer != LOGITS and sum(numbers[one] for one in groups[-1]) + numbers[layer] > AT_ONCE:
            groups.append([])
        groups[-1].append(layer)
    return groups
