"""Deep k-nearest neighbours: how well the nearest training points, layer by layer, agree with a class: credibility and confidence.

A label's nonconformity a(x, j) is the number of neighbours with another label, summed over layers. Its p-value says how usual that
is: (1 + #{calibration scores >= a}) / (1 + n_cal), the scores being those of held-out points with their true labels. Sources:
Papernot and McDaniel 2018 (arXiv 1803.04765); Frosst et al. 2019 (arXiv 1902.01889) for the support of a prediction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, Self

import torch
from torch import Tensor

from reprolib.boundary import NAMED, check_count, checked_labels, not_finite
from reprolib.errors import BadInput, nearest
from reprolib.measures.nearest_points import Neighbourhood

VARIANTS = ("smoothed", "cleverhans")
ABSTAINED = -1

Layers = Mapping[str, Tensor]


class Prediction(NamedTuple):
    """prediction: (n,) int64 class numbers, -1 where every p-value is 0; confidence: 1 - second largest p-value; credibility: the largest."""

    prediction: Tensor
    confidence: Tensor
    credibility: Tensor


class DkNN:
    """Exact nearest neighbours in some layers of a network, an index of training points, and p-values from held-out ones.

    layers: features by name, (n, ...) floats, flattened row by row; divided by their length, then centred by the mean of the index.
    A row of zeros stays one until it is centred; `n_zero_rows` counts those of the index by layer. Pool wide maps first: a
    normalised copy is kept, in fp32 (float64 where given). labels: (n,) whole class numbers from 0, of at least two classes.
    k: neighbours a layer. variant: "smoothed", or "cleverhans": #{scores >= a} / n_cal over the scores above 0, which can be 0 for all
    labels. Work is done where the first layer lies. The neighbours do not depend on batches or tiles: what fp32 cannot tell apart is
    decided in float64, an exact tie by the order of the index. Nothing given is changed.
    Raises BadInput for k below 1 or above n, features that are no floats (n, ...), not finite or of different n, other labels.
    """

    def __init__(self, layers: Layers, labels: Tensor, k: int = 75, variant: str = "smoothed") -> None:
        check_count(k, "k")
        if variant not in VARIANTS:
            raise BadInput(f"variant {variant!r} is unknown; allowed: {', '.join(VARIANTS)}{nearest(variant, VARIANTS)}")
        n = _check(layers)
        if k > n:
            raise BadInput(f"k={k} is above the {n} points of the index: give a k of at most {n}, or more points")
        y = checked_labels(labels, n)
        if len(y.unique()) < 2 or int(y.min()) < 0:
            raise BadInput(f"labels run from {int(y.min())} to {int(y.max())}: give class numbers from 0, of at least two classes")
        self.k, self.variant = k, variant
        self.device = next(iter(layers.values())).device
        self.classes, self._y = y.to(self.device).unique(return_inverse=True)
        self._index = {name: Neighbourhood(x.detach().to(self.device)) for name, x in layers.items()}
        self.n_zero_rows = {name: int((index.length == 0).sum()) for name, index in self._index.items()}
        self.calibration: Tensor | None = None

    def calibrate(self, layers: Layers, labels: Tensor) -> Self:
        """Take the scores of held-out points with their true labels: `calibration`, ascending, all n of them ("cleverhans": those above 0).

        layers, labels: as for the index, of the same layers and classes. Returns self.
        Raises BadInput for other layers, widths or classes, and for points of the index, see `in_index`.
        """
        y = checked_labels(labels, self._check_layers(layers)).to(self.device)
        unknown = y[~torch.isin(y, self.classes)]
        if len(unknown):
            raise BadInput(
                f"calibration label {int(unknown[0])} is none of the index, which has {self.classes.tolist()}: leave such points out"
            )
        same = self.in_index(layers).nonzero().flatten()
        if len(same):
            raise BadInput(
                f"{len(same)} calibration points, the first {same[:NAMED].tolist()}, are points of the index: give held-out points, duplicates left out"
            )
        own = self.nonconformity(self.counts(layers)).gather(1, torch.searchsorted(self.classes, y)[:, None])
        scores = own.flatten().sort().values
        if self.variant == "cleverhans":
            scores = scores[scores > 0]
            if not len(scores):
                raise BadInput(
                    f'all {len(y)} calibration scores are 0, which "cleverhans" leaves out: take variant="smoothed", or a larger k'
                )
        self.calibration = scores
        return self

    def predict(self, layers: Layers | Tensor) -> Prediction:
        """The label of the largest p-value, a tie going to fewer dissenting neighbours; all three (n,), p-values float64.

        layers: of the index, or what `counts` gave for them (for several answers from one search). Raises BadInput before `calibrate`.
        """
        self._scores()
        counts = self._counts(layers)
        p, a = self.p_values(counts), self.nonconformity(counts)
        second, first = p.topk(2, dim=1).values.unbind(1)[::-1]
        label = self.classes[a.argmin(dim=1)]  # p falls with a, so fewest dissenters is also the largest p
        return Prediction(label.masked_fill(first == 0, ABSTAINED), 1 - second, first)

    def p_values(self, layers: Layers | Tensor) -> Tensor:
        """(n, classes) float64, in the order of `classes`; layers as for `predict`. Raises BadInput before `calibrate`."""
        return p_values(self.nonconformity(layers), self._scores(), self.variant == "smoothed")

    def support(self, layers: Layers | Tensor, predicted: Tensor) -> dict[str, Tensor]:
        """The share of the k neighbours that have the predicted label, (n,) float64 by layer; 0 for -1 and classes not in the index.

        predicted: (n,) whole class numbers, of this or any classifier; layers as for `predict`.
        """
        counts = self._counts(layers)
        is_own = checked_labels(predicted, len(counts), "predicted labels").to(self.device)[:, None] == self.classes
        return {name: (counts[:, i] * is_own).sum(dim=1).double() / self.k for i, name in enumerate(self._index)}

    def nonconformity(self, layers: Layers | Tensor) -> Tensor:
        """(n, classes) int64: neighbours with another label, over all layers; layers as for `predict`."""
        return self.k * len(self._index) - self._counts(layers).sum(dim=1)

    def counts(self, layers: Layers) -> Tensor:
        """Neighbours of each class in each layer, (n, layers, classes) int32; every row of a layer sums to k."""
        n = self._check_layers(layers)
        found = torch.zeros(n, len(self._index), len(self.classes), dtype=torch.int32, device=self.device)
        for i, (name, index) in enumerate(self._index.items()):
            own = self._y[index.nearest(layers[name].detach().to(self.device), self.k)]
            found[:, i].scatter_add_(1, own, torch.ones_like(own, dtype=torch.int32))
        return found

    def in_index(self, layers: Layers) -> Tensor:
        """(n,) bool: in every layer where it is not 0 the point's features are those of an index point, direction and length.

        Such a point is its own neighbour: neither calibrate with it nor ask about it.
        """
        n = self._check_layers(layers)
        agree, is_seen = torch.ones(n, dtype=torch.bool, device=self.device), torch.zeros(n, dtype=torch.bool, device=self.device)
        for name, index in self._index.items():
            is_same, is_zero = index.holds(layers[name].detach().to(self.device))
            agree, is_seen = agree & (is_same | is_zero), is_seen | ~is_zero
        return agree & is_seen

    def _scores(self) -> Tensor:
        if self.calibration is None:
            raise BadInput("there are no calibration scores yet: call calibrate(layers, labels) with held-out points first")
        return self.calibration

    def _counts(self, given: Layers | Tensor) -> Tensor:
        if not isinstance(given, Tensor):
            return self.counts(given)
        shape = (len(self._index), len(self.classes))
        if given.shape[1:] != shape or given.is_floating_point():
            raise BadInput(
                f"a {given.dtype} tensor of shape {tuple(given.shape)} is given: give features by layer, {{name: (n, ...)}}, or counts"
            )
        return given

    def _check_layers(self, layers: Layers) -> int:
        n, names = _check(layers), list(self._index)
        if set(layers) != set(names):
            raise BadInput(f"layers {list(layers)} are not those of the index, {names}: give the same layers of the same network")
        for name, x in layers.items():
            width, own = x[0].numel(), self._index[name].z.shape[1]
            if width != own:
                raise BadInput(f"layer {name!r} has {width} features a point, the index {own}: give the same layer, pooled in the same way")
        return n


def p_values(nonconformity: Tensor, scores: Tensor, smoothed: bool = True) -> Tensor:
    """The share of calibration scores (n_cal,), ascending, that are at least as large as each nonconformity (...), float64; see the head.

    For scores that were summed elsewhere, over layers taken one after the other. smoothed: as if one more were as large.
    """
    at_least = (len(scores) - torch.searchsorted(scores, nonconformity)).double()
    return (at_least + smoothed) / (len(scores) + smoothed)


def _check(layers: Layers) -> int:
    """The number of points; raises BadInput unless layers are finite floats (n, ...) by name, of one n."""
    if not isinstance(layers, Mapping) or not layers:
        given = "no layers" if isinstance(layers, Mapping) else f"a {type(layers).__name__}"
        raise BadInput(f"{given} given: give features by layer, {{name: (n, ...)}}")
    for name, x in layers.items():
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 2 or not x.numel():
            given = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
            raise BadInput(f"layer {name!r} is {given}: give floating point features (n, ...)")
        if not all(math.isfinite(end) for end in torch.aminmax(x.detach())):
            raise BadInput(f"layer {name!r} holds values that are not finite in samples {not_finite(x)}: look at the network and its input")
    sizes = {name: len(x) for name, x in layers.items()}
    if len(set(sizes.values())) > 1:
        raise BadInput(f"layers hold different numbers of points, {sizes}: give all layers of the same points")
    return len(x)
