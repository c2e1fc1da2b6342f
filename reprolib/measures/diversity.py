"""What hidden units answer to: the images they answer to most, how unlike those are, and which natural classes and colours they prefer.

Units stand side by side, those of all layers in one tensor. Diversity is this project's form of the third simplicity bias of Chen,
Agarwal, Nguyen 2020 (arXiv 2006.09373), "fewer kinds of input": 1 for images drawn at random, 0 for one image again and again. The
participation ratio (sum l)^2 / sum l^2 of the eigenvalues l of a covariance is the effective number of its directions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reprolib.boundary import check_count, checked_labels
from reprolib.errors import BadInput

UNITS = 512  # whose ranks or codes are held at a time
FLAT = 1e-12  # variance below this share of the mean square is rounding


@dataclass(frozen=True)
class TopImages:
    """Numbers of the images that each unit answers to most, most first: (k, units) by its largest activation, and by its mean one.

    size: (units,) mean of |activation| over all positions of all images, in float64; below 1e-8 a unit is dead.
    """

    by_largest: Tensor
    by_mean: Tensor
    size: Tensor


def top_images(batches: Iterable[Sequence[Tensor]], k: int = 25) -> TopImages:
    """The k images of each unit, in one pass in which k images a unit are held; of equal activations the earlier image comes first.

    batches: for each batch of images its maps (b, c, h, w), one a layer; units are the channels of all layers, in this order.
    Raises BadInput for fewer than k images, and for activations that are not finite.
    """
    check_count(k, "k")
    largest, mean, n, total = _Best(k), _Best(k), 0, torch.zeros(())
    for maps in batches:
        by_largest, by_mean = (torch.cat([of(one) for one in maps], dim=1) for of in (_largest, _mean))
        if not bool(by_largest.isfinite().all() and by_mean.isfinite().all()):
            raise BadInput(f"activations of images {n} to {n + len(by_largest) - 1} are not all finite: look at the network's weights")
        largest.update(by_largest, n)
        mean.update(by_mean, n)
        size = torch.cat([one.abs().double().mean(dim=(2, 3)) for one in maps], dim=1).sum(dim=0)
        n, total = n + len(by_largest), total.to(size) + size
    if n < k:
        raise BadInput(f"{n} images are fewer than the top {k} of a unit: give at least {k} images, or a smaller k")
    return TopImages(largest.index, mean.index, total / n)


def mean_activations(batches: Iterable[Sequence[Tensor]]) -> Tensor:
    """(n, units): the mean of each unit over the positions of each image; batches: as of `top_images`."""
    return torch.cat([torch.cat([_mean(one) for one in maps], dim=1) for maps in batches])


def diversity(codes: Tensor, top: Tensor) -> Tensor:
    """Mean of 1 - cosine over the pairs of each unit's images, divided by what as many random images have; (units,) float64.

    codes: (n, d) of all images, of an independent network. top: (k, units), k of at least 2. The divisor is the mean over all pairs of
    all images, which is exactly the expectation over k images drawn without replacement. Identical images: 0; random ones: 1 expected.
    Raises BadInput for a code of zeros, images that are all alike, and for numbers of images that are not there.
    """
    _check_top(top, len(codes), 2)
    norms = codes.double().norm(dim=1, keepdim=True)
    if not bool((norms > 0).all() and norms.isfinite().all()):
        raise BadInput(
            f"the code of {int((~(norms > 0)).sum())} images is zero or no number, and has no cosine: take another code, or leave them out"
        )
    unit = codes.double() / norms
    at_random = _unlike(unit.sum(dim=0), len(unit))
    if float(at_random) <= FLAT:
        raise BadInput(f"all {len(unit)} images have one and the same code: their diversity is undefined, give images that differ")
    chosen = torch.stack([unit[some].sum(dim=0) for some in top.T])  # (units, d)
    return _unlike(chosen, len(top)).clamp(min=0) / at_random


def participation_ratio(codes: Tensor, top: Tensor) -> Tensor:
    """(sum l)^2 / sum l^2 of the eigenvalues l of the covariance of each unit's images' codes, (units,) float64; 0 where these are one point.

    codes: (n, d), as they are. top: (k, units). At most min(k - 1, d). Raises BadInput as `diversity` for the numbers of images.
    """
    _check_top(top, len(codes), 2)
    found = []
    for some in top.T.split(UNITS):
        chosen = codes.double()[some]  # (units, k, d)
        centred = chosen - chosen.mean(dim=1, keepdim=True)
        gram = centred @ centred.transpose(1, 2)  # has the covariance's eigenvalues
        trace, square = gram.diagonal(dim1=1, dim2=2).sum(dim=1), gram.square().sum(dim=(1, 2))
        is_point = trace <= FLAT * chosen.square().sum(dim=(1, 2))
        found.append(torch.where(is_point, 0.0, trace.square() / square.clamp(min=torch.finfo(torch.float64).tiny)))
    return torch.cat(found)


def class_entropy(labels: Tensor, top: Tensor, n_classes: int) -> Tensor:
    """Entropy of the classes of each unit's images over the log of the number of classes, (units,) float64; 0: one class, 1: all alike often.

    labels: (n,) of all images, numbers below n_classes. top: (k, units). Raises BadInput for fewer than 2 classes, labels that are none.
    """
    labels = checked_labels(labels, len(labels))
    _check_top(top, len(labels), 1)
    if n_classes < 2:
        raise BadInput(f"n_classes={n_classes}: the entropy of one class is always 0, at least 2 classes are needed")
    if not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise BadInput(f"labels run from {int(labels.min())} to {int(labels.max())}: allowed are 0 to {n_classes - 1}")
    shares = torch.nn.functional.one_hot(labels[top], n_classes).double().mean(dim=0)  # (units, classes)
    return -torch.xlogy(shares, shares).sum(dim=1) / torch.tensor(n_classes).double().log()


def auroc(values: Tensor, labels: Tensor) -> Tensor:
    """Of each unit and class the share of pairs (an image of the class, one of the rest) that it orders rightly, ties by half: (units, classes).

    values: (n, units). labels: (n,), class numbers; columns are the classes that occur, in order. float64, by ranks; the area under the
    curve of scikit-learn's roc_auc_score. Raises BadInput for labels of one class, and for values that are not finite.
    """
    labels = checked_labels(labels, len(values))
    there, place = labels.unique(return_inverse=True)
    if len(there) < 2:
        raise BadInput(f"all {len(labels)} labels are of one class: an AUROC sets a class against the rest, so give at least 2")
    if not bool(values.isfinite().all()):
        raise BadInput("values are not all finite, so they have no order: look at the network's weights")
    of_class = torch.nn.functional.one_hot(place).double()  # (n, classes)
    counts = of_class.sum(dim=0)
    found = []
    for some in values.T.split(UNITS):
        some = some.contiguous()
        ordered = some.sort(dim=1).values
        below, up_to = torch.searchsorted(ordered, some), torch.searchsorted(ordered, some, right=True)
        ranks = (below + up_to + 1).double() / 2  # from 1, equal values share the mean of theirs
        found.append((ranks @ of_class - counts * (counts + 1) / 2) / (counts * (len(labels) - counts)))
    return torch.cat(found)


def best_auroc(values: Tensor, labels: Tensor) -> Tensor:
    """The largest `auroc` of each unit over the classes, each against the rest: (units,) float64; .5 for a constant unit."""
    return auroc(values, labels).amax(dim=1)


def permuted(labels: Tensor, seed: int = 0) -> Tensor:
    """The labels dealt to other images, the same deal for equal seeds: what a unit seems to prefer then is the floor of a best AUROC."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    return labels[order.to(labels.device)]


def colour_r2(values: Tensor, images: Tensor) -> Tensor:
    """Share of each unit's variance over images that a linear function of an image's mean colour explains: (units,) float64, in [0, 1].

    values: (n, units). images: (n, c, h, w), or their mean colours (n, c). Least squares with an intercept; a constant unit: 0. Of a unit
    that has nothing to do with colour c / (n - 1) is expected. Raises BadInput for images of one mean colour, or no more than c + 1.
    """
    colour = (images.double().mean(dim=(2, 3)) if images.ndim == 4 else images.double()).to(values.device)
    if len(colour) != len(values) or colour.ndim != 2:
        raise BadInput(f"images are of shape {tuple(images.shape)} for values of {len(values)} images: one mean colour an image is needed")
    n, c = colour.shape
    if n <= c + 1:
        raise BadInput(f"{n} images are too few: {c} channels and an intercept explain any unit on {c + 1}; give more")
    basis, spread, _ = torch.linalg.svd(colour - colour.mean(dim=0), full_matrices=False)
    if float(spread[0]) ** 2 <= FLAT * float(colour.square().sum()):
        raise BadInput(f"all {n} images have one mean colour, which explains nothing: give images whose colours differ")
    basis = basis[:, spread > 1e-6 * spread[0]]
    centred = values.double() - values.double().mean(dim=0)
    total = centred.square().sum(dim=0)
    is_constant = total <= FLAT * values.double().square().sum(dim=0)
    explained = (basis.T @ centred).square().sum(dim=0)
    return torch.where(is_constant, 0.0, explained / total.clamp(min=torch.finfo(torch.float64).tiny)).clamp(max=1)


class _Best:
    """The k largest values of each unit so far, and the numbers of their images."""

    def __init__(self, k: int) -> None:
        self.k, self.values, self.index = k, torch.zeros(0, 0), torch.zeros(0, 0, dtype=torch.long)

    def update(self, values: Tensor, first: int) -> None:
        """Take in values (b, units) of the images from number `first` on."""
        index = torch.arange(first, first + len(values), device=values.device)[:, None].expand(values.shape)
        if first:
            values, index = torch.cat([self.values, values]), torch.cat([self.index, index])
        order = values.sort(dim=0, descending=True, stable=True).indices[: self.k]  # stable: the earlier of equals first
        self.values, self.index = values.gather(0, order), index.gather(0, order)


def _largest(one: Tensor) -> Tensor:
    return one.amax(dim=(2, 3))


def _mean(one: Tensor) -> Tensor:
    return one.mean(dim=(2, 3))


def _unlike(total: Tensor, n: int) -> Tensor:
    """Mean of 1 - cosine over the pairs of n unit vectors, from their sum (..., d)."""
    return 1 - (total.square().sum(dim=-1) - n) / (n * (n - 1))


def _check_top(top: Tensor, n: int, least: int) -> None:
    if top.ndim != 2 or len(top) < least:
        raise BadInput(f"top images are of shape {tuple(top.shape)}: (k, units) with k of at least {least} are needed")
    if not 0 <= int(top.min()) <= int(top.max()) < n:
        raise BadInput(f"top images run from {int(top.min())} to {int(top.max())}, and there are {n} images: both must be of one set")
