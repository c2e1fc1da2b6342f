"""Linear CKA with the unbiased HSIC: all layer pairs of one network, or between two, batch by batch.

Sources: Kornblith et al. 2019 (arXiv 1905.00414) for CKA; Song et al. 2012 for the unbiased HSIC; Nguyen et al. 2021
(arXiv 2010.15327) for minibatches: HSIC is averaged over the batches first, the ratio is taken last.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.measures.gram import LEAST_SAMPLES, VANISHING, centred, check_finite, gram, u_centred

CONSTANT = "constant over every batch: none of its units ever changed"
DEGENERATE = "no two examples of a batch differ in it beyond one outlier, so its HSIC is 0: larger batches may help"

Array = NDArray[np.float64]


def cka(x: Tensor, y: Tensor, unbiased: bool = True) -> float:
    """Linear CKA of two representations of the same examples.

    x: (n, p), y: (n, q), rows aligned, any float dtype; further dimensions are flattened row by row; centred here, not in place.
    Returns a value in [0, 1] when biased; the unbiased estimate scatters around 0 for independent features and may fall below.
    Raises BadInput when the row counts differ, n < 4, or CKA is undefined because a side is constant over the examples.
    """
    n = len(x)
    _check_rows(n, len(y))
    narrow = max(z[0].numel() for z in (x, y)) < n
    check_finite(x, "x")
    check_finite(y, "y")
    a, b = (centred(z.double(), name) if narrow else gram(z, name) for z, name in ((x, "x"), (y, "y")))
    for name, side in (("x", a), ("y", b)):
        if not side.any():
            raise BadInput(f"{name} is constant over its {n} rows, so CKA is undefined: give features that vary, or other examples")
    if narrow:
        cross, own_x, own_y = (_hsic_of_features(*pair, unbiased) for pair in ((a, b), (a, a), (b, b)))
    else:
        a, b = (u_centred(a), u_centred(b)) if unbiased else (a, b)
        cross, own_x, own_y = (float((one * other).sum()) for one, other in ((a, b), (a, a), (b, b)))
    for name, own in (("x", own_x), ("y", own_y)):
        if not own > 0:
            raise BadInput(f"{name} at n={n}: {DEGENERATE}")
    return cross / math.sqrt(own_x) / math.sqrt(own_y)


@dataclass(frozen=True)
class BatchHSIC:
    """The unbiased HSIC of every batch and layer pair: what a bootstrap over batches resamples.

    n (B,): examples a batch. cross (B, Lx, Ly). own_x (B, Lx), own_y (B, Ly): each layer with itself. ids (B,): a hash of
    each batch's sample ids, "" where none were given; networks are resampled jointly only where they saw the same batches.
    """

    n: NDArray[np.int64]
    cross: Array
    own_x: Array
    own_y: Array
    ids: tuple[str, ...]

    def matrix(self, draws: ArrayLike | None = None) -> Array:
        """CKA (Lx, Ly); with draws (R, B), how often each batch counts, (R, Lx, Ly). NaN where a layer's own HSIC is not above 0."""
        own_x, own_y = self._mean(self.own_x, draws), self._mean(self.own_y, draws)
        return self._mean(self.cross, draws) / (_root(own_x)[..., :, None] * _root(own_y)[..., None, :])

    def same_depth(self, draws: ArrayLike | None = None) -> Array:
        """The diagonal (L,) of `matrix`, or (R, L): two networks of one architecture, or two states of one, layer by layer."""
        if self.cross.shape[1] != self.cross.shape[2]:
            raise BadInput(f"{self.cross.shape[1]} layers against {self.cross.shape[2]} have no depths in common: compare equally many")
        cross = self._mean(np.diagonal(self.cross, axis1=1, axis2=2), draws)
        return cross / (_root(self._mean(self.own_x, draws)) * _root(self._mean(self.own_y, draws)))

    def pooled(self) -> BatchHSIC:
        """Means over batches in the place of a batch: the same `matrix`, and nothing to resample."""
        cross, own_x, own_y = (self._mean(values, None)[None] for values in (self.cross, self.own_x, self.own_y))
        return BatchHSIC(self.n[:1], cross, own_x, own_y, ("",))

    def _mean(self, values: Array, draws: ArrayLike | None) -> Array:
        """Mean over batches, each with the weight n (n - 3) of the pairs in it."""
        counts = np.ones(len(self.n)) if draws is None else np.asarray(draws, dtype=np.float64)
        weights = counts * (self.n * (self.n - 3.0))
        weights /= weights.sum(axis=-1, keepdims=True)
        return (weights @ values.reshape(len(values), -1)).reshape(*weights.shape[:-1], *values.shape[1:])


@dataclass(frozen=True)
class FlatGrams:
    """The U-centred Grams of one batch as rows (L, n^2): one product of two of these gives every layer pair. Made by `flat_grams`.

    varies (L,): whether a layer's features changed at all inside the batch.
    """

    rows: Tensor
    varies: NDArray[np.bool_]
    n: int

    def __len__(self) -> int:
        return len(self.rows)


def flat_grams(grams: Sequence[Tensor], names: Sequence[str] = ()) -> FlatGrams:
    """U-centre the `gram` (n, n) of every layer once, for as many updates as a batch of one network takes part in.

    names: of the layers, for messages. Raises BadInput for Grams of different sizes, and for n < 4.
    """
    n = len(grams[0])
    rows = grams[0].new_empty((len(grams), n * n), dtype=torch.float64)
    names = names or [f"layer {i}" for i in range(len(grams))]
    for i, one in enumerate(grams):
        if one.shape != (n, n):
            raise BadInput(f"{names[i]} has a Gram of shape {tuple(one.shape)}, {names[0]} of {tuple(grams[0].shape)}: both need n x n")
        rows[i] = u_centred(one.double()).flatten()
    return FlatGrams(rows, np.array([bool(one.diagonal().sum() > 0) for one in grams]), n)


class MinibatchCKA:
    """CKA of all layers of one network with each other, or with another's; memory grows with layers x n^2, not with images.

    n_layers_y: absent for a network with itself. names_x, names_y: of the layers, for messages. A batch of n counts with weight n (n - 3).
    """

    def __init__(
        self,
        n_layers_x: int,
        n_layers_y: int | None = None,
        *,
        names_x: Sequence[str] | None = None,
        names_y: Sequence[str] | None = None,
    ) -> None:
        self.names_x = _names(n_layers_x, names_x, "x")
        self.names_y = None if n_layers_y is None else _names(n_layers_y, names_y, "y")
        self._kept: list[tuple[int, Array, Array, Array, str]] = []
        self._varies = [np.zeros(n_layers_x, dtype=bool), np.zeros(n_layers_y or n_layers_x, dtype=bool)]

    def update(
        self,
        xs: Sequence[Tensor],
        ys: Sequence[Tensor] | None = None,
        ids: Sequence[Hashable] | None = None,
        ids_y: Sequence[Hashable] | None = None,
    ) -> None:
        """Add a batch of features: one tensor (n, ...) a layer, in the same order every time. ids as in `update_grams`."""
        self._check_layers(xs, ys)
        grams_x = [gram(x, name) for x, name in zip(xs, self.names_x, strict=True)]
        grams_y = None if ys is None else [gram(y, name) for y, name in zip(ys, self.names_y or (), strict=True)]
        self.update_grams(grams_x, grams_y, ids, ids_y)

    def update_grams(
        self,
        xs: Sequence[Tensor] | FlatGrams,
        ys: Sequence[Tensor] | FlatGrams | None = None,
        ids: Sequence[Hashable] | None = None,
        ids_y: Sequence[Hashable] | None = None,
    ) -> None:
        """Add a batch of which each layer's `gram` (n, n) is known already, or all of them U-centred (`flat_grams`).

        ids (n,): names of the examples, kept as a hash; ids_y: those of the other side, where it was fed on its own. Raises
        BadInput when they differ (CKA compares the same examples), when n < 4, or for another number of layers.
        """
        self._check_layers(xs, ys)
        n, n_y = (one.n if isinstance(one, FlatGrams) else len(one[0]) for one in (xs, xs if ys is None else ys))
        _check_rows(n, n_y)
        _check_same_examples(n, ids, ids_y)
        a = self._flat(xs, self.names_x, 0)
        if ys is None:
            cross = a @ a.T
            cross = (cross + cross.T) / 2
            own_x = own_y = cross.diagonal().clone()
        else:
            b = self._flat(ys, self.names_y or (), 1)
            cross = a @ b.T
            own_x, own_y = (torch.linalg.vector_norm(one, dim=1).square() for one in (a, b))
        pairs = n * (n - 3)
        kept = [(one / pairs).cpu().numpy() for one in (cross, own_x, own_y)]
        digest = "" if ids is None else hashlib.sha256("\n".join(map(str, ids)).encode()).hexdigest()
        self._kept.append((n, kept[0], kept[1], kept[2], digest))

    def matrix(self) -> Array:
        """CKA (Lx, Ly) over all batches so far; NaN for the layers that `undefined` names."""
        return self.batches().matrix()

    def batches(self) -> BatchHSIC:
        """The HSICs of every batch, for intervals. Raises BadInput before the first batch."""
        if not self._kept:
            raise BadInput("no batch was added yet: call update() first")
        n, cross, own_x, own_y, ids = zip(*self._kept, strict=True)
        return BatchHSIC(np.array(n), np.stack(cross), np.stack(own_x), np.stack(own_y), ids)

    def undefined(self) -> dict[str, str]:
        """Layer -> why its row or column of the matrix is NaN; empty when all is well."""
        found = self.batches()
        reasons = {}
        for names, own, varies in ((self.names_x, found.own_x, self._varies[0]), (self.names_y, found.own_y, self._varies[1])):
            for name, values, moved in zip(names or (), own.T, varies, strict=bool(names)):
                if not values.sum() > 0:
                    reasons[name] = DEGENERATE if moved else CONSTANT
        return reasons

    def _flat(self, grams: Sequence[Tensor] | FlatGrams, names: Sequence[str], side: int) -> Tensor:
        flat = grams if isinstance(grams, FlatGrams) else flat_grams(grams, names)
        self._varies[side] |= flat.varies
        return flat.rows

    def _check_layers(self, xs: Sequence[Tensor] | FlatGrams, ys: Sequence[Tensor] | FlatGrams | None) -> None:
        wanted = (len(self.names_x), None if self.names_y is None else len(self.names_y))
        given = (len(xs), None if ys is None else len(ys))
        if given != wanted:
            raise BadInput(f"an update with (x, y) = {given} layers, made for {wanted}: give every layer in every batch")


def _hsic_of_features(x: Tensor, y: Tensor, unbiased: bool) -> float:
    """n (n - 3) HSIC from centred features (n, p), (n, q): what the Gram form gives, at a cost of n p q instead of n^2 (p + q)."""
    n = len(x)
    product = float((x.T @ y).square().sum())
    if not unbiased:
        return product
    rows_x, rows_y = x.square().sum(dim=1), y.square().sum(dim=1)
    found = product - n / (n - 2) * float(rows_x @ rows_y) + float(rows_x.sum() * rows_y.sum()) / ((n - 1) * (n - 2))
    return found if abs(found) > VANISHING**2 * product else 0.0


def _root(own: Array) -> Array:
    """The square root, NaN where there is nothing to divide by."""
    return np.sqrt(np.where(own > 0, own, np.nan))


def _names(n_layers: int, names: Sequence[str] | None, side: str) -> tuple[str, ...]:
    if n_layers < 1 or (names is not None and len(names) != n_layers):
        raise BadInput(
            f"{n_layers} layers and {0 if names is None else len(names)} names for {side}: give at least one layer, and a name each"
        )
    return tuple(names) if names is not None else tuple(f"layer {i} of {side}" for i in range(n_layers))


def _check_rows(n_x: int, n_y: int) -> None:
    if n_x != n_y:
        raise BadInput(f"x has {n_x} rows, y has {n_y}: give features of the same examples in the same order")
    if n_x < LEAST_SAMPLES:
        raise BadInput(f"n={n_x} examples: the unbiased HSIC needs at least {LEAST_SAMPLES}; give larger batches")


def _check_same_examples(n: int, ids: Sequence[Hashable] | None, ids_y: Sequence[Hashable] | None) -> None:
    for one in (ids, ids_y):
        if one is not None and len(one) != n:
            raise BadInput(f"{len(one)} ids for {n} examples: give one each")
    if ids_y is not None:
        if ids is None:
            raise BadInput("ids_y is given without ids: give both, they are compared")
        for k, (here, there) in enumerate(zip(ids, ids_y, strict=True)):
            if here != there:
                raise BadInput(f"row {k} is {here!r} for x and {there!r} for y: CKA compares the same examples in the same order")
