"""Raw zero-shot representation quality: how a network that never saw a class labels that class's images.

Source: Kotyan et al. 2022 (arXiv 1906.06627, PLOS ONE 17(4) e0266060), whose code for the metrics was never released: the
formulas here are a reconstruction. The Davies-Bouldin metric is only the scatter half of a Davies-Bouldin index (`dbi`), and 0,
its best value, is that of a network with one output for all images: state `mean_entropy` beside it, or match confidence first.

N: classes in all. Soft labels are probabilities (n, N - 1) of ONE network trained without a class, on images of that class; columns
are the other classes in their order (`shifted`, `original`). Tensors or arrays, any float type; everything is computed in float64.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from reprolib.errors import BadInput, nearest

FLOOR = 1e-4
"""Median mass off the class below which the full network's soft labels, renormalised without it, are rounding noise."""
SUM_TOLERANCE = 1e-3
MATCHED_SHARE = 0.75  # of ln(N - 1), the mean entropy at which networks are compared
ORDERS = ("sum_then_norm", "norm_then_mean")


class BelowFloor(UserWarning):
    """The full network is so sure of the class that what it gives to the others says little; no error."""


@dataclass(frozen=True)
class Matched:
    """The Davies-Bouldin metric at a matched confidence: value and entropy on half B, at the temperature that half A asked for."""

    value: float
    temperature: float
    entropy: float


def davies_bouldin_metric(soft_labels: Tensor | ArrayLike) -> float:
    """How tight soft labels (n, N - 1) are: the root of the mean squared distance to their mean, in [0, sqrt(1 - 1 / (N - 1))].

    Lower is tighter. Raises BadInput for what is no soft label (logits go to `davies_bouldin_metric_from_logits`), fewer than two
    images, and several networks in one.
    """
    return scatter(_soft_labels(soft_labels, "davies_bouldin_metric_from_logits"))


def davies_bouldin_metric_from_logits(logits: Tensor | ArrayLike, temperature: float = 1.0) -> float:
    """`davies_bouldin_metric` of logits (n, N - 1) divided by a temperature above 0."""
    return scatter(_tempered(_matrix(logits, "logits"), temperature).softmax(dim=1))


def davies_bouldin_metric_matched(logits: Tensor | ArrayLike, share: float = MATCHED_SHARE) -> Matched:
    """`davies_bouldin_metric` where the mean entropy is `share` of ln(N - 1): the temperature on even rows, the metric on odd ones.

    logits: (n, N - 1), at least four. It does not change when all logits are multiplied by one number above 0.
    Raises BadInput, as `matched_temperature` does, where no temperature gives that entropy.
    """
    z = _matrix(logits, "logits", least=4)
    temperature = matched_temperature(z[::2], share)
    q = (z[1::2] / temperature).softmax(dim=1)
    return Matched(scatter(q), temperature, _entropy(q))


def davies_bouldin_metric_normalised(features: Tensor | ArrayLike, centre: bool = False) -> float:
    """`scatter` of rows (n, d) divided by their mean norm: of R(x), or, with centre, of logits less the mean of each row (of log-softmax alike).

    It does not change when all rows are multiplied by one number above 0. Raises BadInput where all rows are 0.
    """
    z = _matrix(features, "features")
    z = z - z.mean(dim=1, keepdim=True) if centre else z
    norm = float(z.norm(dim=1).mean())
    if not norm > 0:
        raise BadInput(
            f"all {len(z)} rows {'less their means ' if centre else ''}are 0: they have no norm to divide by; give rows that are not"
        )
    return scatter(z / norm)


def amalgam_metric(
    excluded: Tensor | ArrayLike,
    full: Tensor | ArrayLike,
    index: int,
    order: str = "sum_then_norm",
    norm: float = 1,
    divisor: float | None = None,
) -> float:
    """How far the network that never saw class `index` is from what the full one gives to the other classes: ||H' - H|| / divisor.

    excluded: (n, N - 1), full: (n, N) soft labels of the same images. H' is the normalised sum of excluded; H that of full without
    column `index` ("sum_then_norm"), or the mean of its rows, normalised one by one ("norm_then_mean"). norm: of the difference,
    at least 1. divisor: N - 1 where None, with which the metric lies in [0, 2 / (N - 1)]; lower is better.
    Warns BelowFloor where the median off-class mass is below FLOOR, and is nan where it vanishes: `amalgam_metric_from_logits` is
    exact there. Raises BadInput for what is no soft label, unequal n, columns that do not fit, and an index outside the classes.
    """
    q, p = _soft_labels(excluded, "amalgam_metric_from_logits"), _soft_labels(full, "amalgam_metric_from_logits")
    rest = _without(p, q, index)
    mass = float(rest.sum(dim=1).median())
    if mass < FLOOR:
        warnings.warn(
            f"median mass off class {index} is {mass:.2g}, below {FLOOR:g}: renormalised it is mostly rounding; give logits to "
            "amalgam_metric_from_logits",
            BelowFloor,
            stacklevel=2,
        )
    if _known(order, ORDERS, "order") == "norm_then_mean":
        rest = rest / rest.sum(dim=1, keepdim=True)
    return _amalgam(q.sum(dim=0), rest.sum(dim=0), norm, divisor)


def amalgam_metric_from_logits(
    excluded: Tensor | ArrayLike,
    full: Tensor | ArrayLike,
    index: int,
    order: str = "sum_then_norm",
    norm: float = 1,
    divisor: float | None = None,
) -> float:
    """`amalgam_metric` of logits (n, N - 1) and (n, N), finite however sure the full network is.

    The softmax without logit `index` is the renormalised soft label exactly. In "sum_then_norm" it counts by the mass off the class,
    relative to the largest: uncertain images dominate.
    """
    z, own = _matrix(full, "full"), _matrix(excluded, "excluded")
    rest = _without(z, own, index)
    shares = rest.softmax(dim=1)
    if _known(order, ORDERS, "order") == "sum_then_norm":
        log_mass = rest.logsumexp(dim=1) - z.logsumexp(dim=1)
        shares = shares * (log_mass - log_mass.max()).exp()[:, None]
    return _amalgam(own.softmax(dim=1).sum(dim=0), shares.sum(dim=0), norm, divisor)


def off_class_mass(full: Tensor | ArrayLike, index: int) -> Tensor:
    """(n,): what soft labels (n, N) of the full network leave to the classes other than `index`; a median below FLOOR is the flag."""
    p = _soft_labels(full, "softmax")
    return _without(p, None, index).sum(dim=1)


def dbi(points: Tensor | ArrayLike, labels: Tensor | ArrayLike) -> float:
    """The Davies-Bouldin index (1979): mean over clusters of the worst (s_k + s_l) / d_kl, s the MEAN distance to the centroid.

    points: (n, d), for soft labels those of one network only; labels: (n,) integers, at least two clusters.
    Raises BadInput for unequal lengths, one cluster, two clusters with one centroid, and zero-padded soft labels of several networks.
    """
    x = _matrix(points, "points")
    y = torch.as_tensor(labels, device=x.device)
    names = y.unique().tolist()
    if y.shape != x.shape[:1] or len(names) < 2:
        raise BadInput(
            f"labels of shape {tuple(y.shape)} name {len(names)} clusters of {len(x)} points: give one label a point, of at least 2"
        )
    _refuse_padded(x)
    centroids = torch.stack([x[y == name].mean(dim=0) for name in names])
    s = torch.stack([(x[y == name] - centre).norm(dim=1).mean() for name, centre in zip(names, centroids, strict=True)])
    apart = torch.cdist(centroids, centroids, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf)
    if not apart.min() > 0:
        k, other = divmod(int(apart.argmin()), len(names))
        raise BadInput(
            f"clusters {names[k]} and {names[other]} have one centroid: the index is undefined; give points that tell them apart"
        )
    return float(((s[:, None] + s) / apart).amax(dim=1).mean())


def scatter(points: Tensor | ArrayLike) -> float:
    """The root of the mean squared distance of points (n, d), n at least 2, to their mean."""
    x = _matrix(points, "points")
    return float((x - x.mean(dim=0)).square().sum(dim=1).mean().sqrt())


def mean_entropy(soft_labels: Tensor | ArrayLike) -> float:
    """Mean entropy of soft labels (n, N - 1) in nats, in [0, ln(N - 1)]: without it a Davies-Bouldin metric says nothing."""
    return _entropy(_soft_labels(soft_labels, "softmax"))


def matched_temperature(logits: Tensor | ArrayLike, share: float = MATCHED_SHARE) -> float:
    """The temperature at which the mean entropy of logits (n, K) is `share`, in (0, 1), of ln K; by bisection, to 1e-12 of its logarithm.

    Raises BadInput where none gives it, because the largest logits of too many rows are tied.
    """
    z = _matrix(logits, "logits")
    if not 0 < share < 1:
        raise BadInput(f"share={share} is outside (0, 1): it is of ln K, the entropy of uniform soft labels, such as .75")
    z = z - z.amax(dim=1, keepdim=True)
    unit, wanted = float(z.abs().max()), share * math.log(z.shape[1])
    lowest = float((z == 0).sum(dim=1).double().log().mean())  # at temperature 0: spread over the tied
    if not (unit > 0 and lowest < wanted):
        raise BadInput(
            f"no temperature gives a mean entropy of {wanted:.4g}: the largest logits are tied, so that it is at least {lowest:.4g}; "
            "give logits of a trained network, or a larger share"
        )
    low, high = -80.0, 40.0  # logarithms of the temperature in units of the largest difference
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (low, middle) if _entropy((z / (unit * math.exp(middle))).softmax(dim=1)) > wanted else (middle, high)
    return unit * math.exp((low + high) / 2)


def mass(soft_labels: Tensor | ArrayLike, index: int, classes: Sequence[int]) -> float:
    """What the mean soft label of class `index` gives to `classes`, named by their numbers among all N; in [0, 1].

    Raises BadInput for classes that are none, given twice, the excluded one, or not among the N.
    """
    q = _soft_labels(soft_labels, "softmax")
    n_classes = q.shape[1] + 1
    _check_index(index, n_classes)
    if not classes or not {*classes} <= {*range(n_classes)} - {index} or len({*classes}) < len(classes):
        raise BadInput(
            f"classes={list(classes)} beside class {index}: give at least one of 0 to {n_classes - 1}, each once, without {index}"
        )
    return float(q.mean(dim=0)[[k - (k > index) for k in classes]].sum())


def relative_mass(soft_labels: Tensor | ArrayLike, index: int, relatives: Sequence[int]) -> float:
    """`mass` on the known relatives of class `index` over their share of the N - 1 classes: 1 by chance."""
    return mass(soft_labels, index, relatives) * torch.as_tensor(soft_labels).shape[1] / len(relatives)


def shifted(labels: Tensor, index: int) -> Tensor:
    """Labels (n,) among N classes as a network without class `index` counts them: those above it move down by one.

    Raises BadInput where one of them is `index`: it has no label there.
    """
    if bool((labels == index).any()):
        raise BadInput(
            f"{int((labels == index).sum())} of {len(labels)} labels are the excluded class {index}: leave these images out first"
        )
    return labels - (labels > index).to(labels.dtype)


def original(labels: Tensor, index: int) -> Tensor:
    """The inverse of `shifted`: columns or answers (n,) of a network without class `index` as numbers among all N classes."""
    return labels + (labels >= index).to(labels.dtype)


def _matrix(values: Tensor | ArrayLike, what: str, least: int = 2) -> Tensor:
    """Values as a float64 matrix of finite numbers; or the sentence that says what is wrong with them."""
    several = isinstance(values, dict) or (isinstance(values, list | tuple) and any(getattr(one, "ndim", 0) > 1 for one in values))
    x = torch.empty(0) if several else torch.as_tensor(values)
    if several or x.ndim == 3:
        raise BadInput(f"{what} of several networks in one: each has columns of its own; measure one network at a time and take the mean")
    if x.ndim != 2 or x.shape[1] < 2:
        raise BadInput(f"{what} of shape {tuple(x.shape)}: give a row an image and at least 2 columns")
    if len(x) < least:
        none = " (a class without images)" if not len(x) else ""
        raise BadInput(f"{what} of {len(x)} images{none}: at least {least} are needed; give all images of the class")
    x = x.detach().double()
    if not bool(x.isfinite().all()):
        bad = (~x.isfinite()).any(dim=1).nonzero()
        raise BadInput(f"{what} are not finite in {len(bad)} of {len(x)} rows, the first {int(bad[0])}: look for a diverged network")
    return x


def _soft_labels(values: Tensor | ArrayLike, cure: str) -> Tensor:
    x = _matrix(values, "soft labels")
    sums = x.sum(dim=1)
    off = (sums - 1).abs() > SUM_TOLERANCE
    logits = f"they look like logits: give probabilities, or call {cure}"
    if bool((x < 0).any()):
        raise BadInput(f"soft labels go down to {float(x.min()):.4g}, allowed are 0 to 1; {logits}")
    if bool(off.any()):
        raise BadInput(
            f"row {int(off.nonzero()[0])} of the soft labels sums to {float(sums[off][0]):.4g}, not to 1 within {SUM_TOLERANCE:g}; {logits}"
        )
    _refuse_padded(x)
    return x


def _refuse_padded(x: Tensor) -> None:
    """Each row 0 in one column, and not all in the same: soft labels of several networks, a 0 where each lacks its class."""
    zero = x == 0
    if x.shape[1] > 2 and bool((zero.sum(dim=1) == 1).all()) and not bool(zero.all(dim=0).any()):
        raise BadInput(
            f"each of the {len(x)} rows has one exact 0, in {int(zero.any(dim=0).sum())} columns: soft labels of several networks, padded "
            "where their class is missing, are told apart by the padding alone; measure one network at a time and take the mean"
        )


def _without(full: Tensor, excluded: Tensor | None, index: int) -> Tensor:
    """The full network's rows without column `index`, checked against those of the network without that class."""
    _check_index(index, full.shape[1])
    if excluded is not None and excluded.shape[1] != full.shape[1] - 1:
        raise BadInput(
            f"the full network has {full.shape[1]} columns, {excluded.shape[1] + 1} are wanted beside {excluded.shape[1]} of the network "
            "without a class: give the soft labels of all N classes"
        )
    if excluded is not None and len(excluded) != len(full):
        raise BadInput(f"{len(excluded)} rows of the network without a class, {len(full)} of the full one: give both on the same images")
    return torch.cat([full[:, :index], full[:, index + 1 :]], dim=1)


def _check_index(index: int, n_classes: int) -> None:
    if not 0 <= index < n_classes:
        raise BadInput(f"index={index} is outside the classes: allowed are 0 to {n_classes - 1}, counted among all {n_classes}")


def _known(given: str, allowed: Sequence[str], what: str) -> str:
    if given not in allowed:
        raise BadInput(f"{what}={given!r} is unknown; allowed: {', '.join(allowed)}{nearest(given, allowed)}")
    return given


def _amalgam(excluded: Tensor, full: Tensor, norm: float, divisor: float | None) -> float:
    """The distance of two sums of soft labels (N - 1,), each normalised."""
    divisor = len(excluded) if divisor is None else divisor
    if not (norm >= 1 and divisor > 0):
        raise BadInput(f"norm={norm}, divisor={divisor}: allowed are a norm of at least 1 and a divisor above 0")
    return float((excluded / excluded.sum() - full / full.sum()).norm(p=norm)) / divisor


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    if not 0 < temperature < math.inf:
        raise BadInput(f"temperature={temperature} is not allowed: above 0, such as 1 for the logits as they are")
    return logits / temperature


def _entropy(q: Tensor) -> float:
    return float(-torch.xlogy(q, q).sum(dim=1).mean())
