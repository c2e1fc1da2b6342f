"""Raw zero-shot metrics against closed forms, a plain reimplementation, scikit-learn, and what may be given by mistake."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import davies_bouldin_score
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.measures import raw_zero_shot as rzs

Array = NDArray[np.float64]


def logits(n: int = 60, k: int = 10, scale: float = 1.0, seed: int = 0) -> Tensor:
    drawn = torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scale * (drawn + torch.linspace(-1, 1, k, dtype=torch.float64))


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def plain_dbm(q: Array) -> float:
    centre = [sum(row[k] for row in q) / len(q) for k in range(q.shape[1])]
    return math.sqrt(sum(sum((v - c) ** 2 for v, c in zip(row, centre, strict=True)) for row in q) / len(q))


def plain_am(excluded: Array, full: Array, index: int, order: str) -> float:
    rest = np.delete(full, index, axis=1)
    if order == "norm_then_mean":
        rest = rest / rest.sum(axis=1)[:, None]
    h, own = rest.sum(axis=0), excluded.sum(axis=0)
    return float(sum(abs(a - b) for a, b in zip(own / own.sum(), h / h.sum(), strict=True))) / len(own)


def test_both_metrics_are_those_of_a_plain_reimplementation() -> None:
    own, full = logits(k=9), logits(seed=1)
    q, p = (softmax(z.numpy()) for z in (own, full))
    assert rzs.davies_bouldin_metric(q) == pytest.approx(plain_dbm(q), abs=1e-10)
    assert rzs.davies_bouldin_metric_from_logits(own) == pytest.approx(plain_dbm(q), abs=1e-10)
    assert rzs.davies_bouldin_metric_from_logits(own, 3.0) == pytest.approx(plain_dbm(softmax(own.numpy() / 3)), abs=1e-10)
    for order in rzs.ORDERS:
        for index in (0, 4, 9):
            wanted = plain_am(q, p, index, order)
            assert rzs.amalgam_metric(q, p, index, order) == pytest.approx(wanted, abs=1e-10)
            assert rzs.amalgam_metric_from_logits(own, full, index, order) == pytest.approx(wanted, abs=1e-10)
    assert rzs.amalgam_metric(q, p, 3, "norm_then_mean") != pytest.approx(rzs.amalgam_metric(q, p, 3), abs=1e-6)
    rest = np.delete(p, 3, axis=1)
    difference = q.mean(axis=0) - rest.sum(axis=0) / rest.sum()
    assert rzs.amalgam_metric(q, p, 3, norm=2, divisor=1) == pytest.approx(np.linalg.norm(difference), abs=1e-10)


def test_the_metric_of_closed_forms() -> None:
    spread = torch.eye(9).repeat(5, 1)
    assert rzs.davies_bouldin_metric(spread) == pytest.approx(math.sqrt(1 - 1 / 9), abs=1e-12)
    assert rzs.davies_bouldin_metric(torch.eye(9)[[4] * 7]) == 0
    assert rzs.davies_bouldin_metric(torch.full((8, 9), 1 / 9)) == 0
    assert rzs.davies_bouldin_metric(softmax(logits(1, 9).numpy()).repeat(6, axis=0)) == pytest.approx(0, abs=1e-12)
    two = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.4, 0.0]]).repeat(10, 1)  # half a distance from the middle
    assert rzs.davies_bouldin_metric(two) == pytest.approx(math.sqrt(0.32) / 2, abs=1e-7)
    q = softmax(logits(k=9).numpy())
    assert rzs.davies_bouldin_metric(q[:, ::-1].copy()) == pytest.approx(rzs.davies_bouldin_metric(q), abs=1e-12)


def test_amalgam_of_closed_forms() -> None:
    full = logits(scale=0.5)
    kept = torch.cat([full[:, :3], full[:, 4:]], dim=1)
    assert rzs.amalgam_metric_from_logits(kept, full, 3, "norm_then_mean") == pytest.approx(0, abs=1e-12)
    same = torch.tensor([[0.5, 0.3, 0.2]] * 4, dtype=torch.float64)
    with_class = torch.cat([same / 2, torch.full((4, 1), 0.5, dtype=torch.float64)], dim=1)
    assert rzs.amalgam_metric(same, with_class, 3) == pytest.approx(0, abs=1e-12)
    apart = torch.tensor([[0.5, 0.0, 0.0, 0.5]] * 4, dtype=torch.float64)  # all of the rest on the first class, H' on the third
    assert rzs.amalgam_metric(torch.eye(3)[[2] * 4], apart, 3) == pytest.approx(2 / 3, abs=1e-12)
    moved = torch.cat([apart[:, 3:], apart[:, :3]], dim=1)  # the same with the class in front: columns of H shift alike
    assert rzs.amalgam_metric(torch.eye(3)[[0] * 4], moved, 0) == pytest.approx(0, abs=1e-12)


def test_a_sure_network_raises_the_flag_and_its_logits_do_not_mind() -> None:
    own, full = logits(k=9), logits(seed=1)
    sure = full.clone()
    sure[:, 3] += 50
    p = sure.float().softmax(dim=1)
    assert float(rzs.off_class_mass(p, 3).median()) < rzs.FLOOR < float(rzs.off_class_mass(full.softmax(dim=1), 3).median())
    for order in rzs.ORDERS:
        with pytest.warns(rzs.BelowFloor, match=r"median mass off class 3 is .*e-\d+, below 0.0001.*amalgam_metric_from_logits"):
            rzs.amalgam_metric(own.softmax(dim=1), p, 3, order)
        for far in (50, 5000):
            sure = full.clone()
            sure[:, 3] += far
            got = rzs.amalgam_metric_from_logits(own, sure, 3, order)
            assert math.isfinite(got)
            if order == "norm_then_mean":  # which knows nothing of the logit left out
                assert got == pytest.approx(rzs.amalgam_metric_from_logits(own, full, 3, order), abs=1e-12)
    with pytest.warns(rzs.BelowFloor):
        assert math.isnan(rzs.amalgam_metric(own.softmax(dim=1), torch.eye(10)[[3] * 60], 3))


def test_the_index_is_that_of_scikit_learn_and_not_the_metric() -> None:
    q = softmax(logits(200, 9, 2.0).numpy())
    labels = np.arange(200) % 10
    assert rzs.dbi(q, labels) == pytest.approx(davies_bouldin_score(q, labels), rel=1e-12)
    line = torch.tensor([[0.0, 0.0], [2.0, 0.0], [10.0, 0.0], [14.0, 0.0], [11.0, 0.0], [13.0, 0.0]])
    assert rzs.dbi(line, torch.tensor([5, 5, 7, 7, 7, 7])) == pytest.approx(
        (1 + 1.5) / 11, abs=1e-12
    )  # by the root of the mean square 1.58


def test_at_matched_entropy_the_scale_of_logits_is_gone_and_half_a_alone_sets_the_temperature() -> None:
    z = logits(80, 9, 2.0)
    found = rzs.davies_bouldin_metric_matched(z)
    raw = {}
    for factor in (0.5, 2.0, 4.0):
        again = rzs.davies_bouldin_metric_matched(factor * z)
        assert again.value == pytest.approx(found.value, abs=1e-10)
        assert again.temperature == pytest.approx(factor * found.temperature, rel=1e-9)
        raw[factor] = rzs.davies_bouldin_metric_from_logits(factor * z)
        assert rzs.davies_bouldin_metric_normalised(factor * z, centre=True) == pytest.approx(
            rzs.davies_bouldin_metric_normalised(z.log_softmax(dim=1), centre=True), abs=1e-12
        )
    assert raw[0.5] + 0.05 < raw[2.0] < raw[4.0] - 0.05
    even = z[::2] / found.temperature
    assert rzs.mean_entropy(even.softmax(dim=1)) == pytest.approx(0.75 * math.log(9), abs=1e-10)
    other = z.clone()
    other[1::2] *= 3
    assert rzs.davies_bouldin_metric_matched(other).temperature == found.temperature
    assert rzs.davies_bouldin_metric_matched(other).value == pytest.approx(
        plain_dbm(softmax(other[1::2].numpy() / found.temperature)), abs=1e-10
    )
    assert rzs.davies_bouldin_metric_matched(other).entropy < found.entropy
    for share in (0.5, 0.9):
        assert rzs.mean_entropy((z / rzs.matched_temperature(z, share)).softmax(dim=1)) == pytest.approx(share * math.log(9), abs=1e-10)


def test_normalised_features_have_a_mean_norm_of_one() -> None:
    x = torch.tensor([[3.0, 4.0], [-3.0, -4.0]])
    assert rzs.davies_bouldin_metric_normalised(x) == pytest.approx(1, abs=1e-12)
    assert rzs.davies_bouldin_metric_normalised(100 * x) == pytest.approx(1, abs=1e-12)
    assert rzs.scatter(x) == pytest.approx(5, abs=1e-12)
    assert rzs.davies_bouldin_metric_normalised(x + 50) < 0.1


def test_mass_on_relatives_names_classes_among_all() -> None:
    q = torch.tensor([[0.1, 0.2, 0.3, 0.4]] * 3)  # of a network without class 1: columns are classes 0, 2, 3, 4
    assert rzs.mass(q, 1, [0, 4]) == pytest.approx(0.5)
    assert rzs.mass(q, 1, [2]) == pytest.approx(0.2)
    assert rzs.relative_mass(q, 1, [4]) == pytest.approx(1.6)
    assert rzs.relative_mass(q, 4, [0, 1, 2, 3]) == pytest.approx(1)
    assert rzs.relative_mass(torch.full((3, 8), 1 / 8), 0, [1, 2, 3, 6]) == pytest.approx(1)


@pytest.mark.parametrize("index", [0, 3, 9])
def test_labels_shift_and_come_back(index: int) -> None:
    labels = torch.tensor([k for k in range(10) if k != index])
    assert rzs.shifted(labels, index).tolist() == list(range(9))
    assert rzs.original(torch.arange(9), index).tolist() == labels.tolist()
    with pytest.raises(BadInput, match=f"1 of 10 labels are the excluded class {index}"):
        rzs.shifted(torch.arange(10), index)


GOOD, FULL = torch.full((4, 9), 1 / 9), torch.full((4, 10), 0.1)
PADDED = torch.full((4, 10), 1 / 9).scatter(1, torch.tensor([[0], [0], [1], [1]]), 0.0)
DBM, AM = rzs.davies_bouldin_metric, rzs.amalgam_metric


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: DBM(logits(4, 9)), r"soft labels go down to -\d.*they look like logits: .*davies_bouldin_metric_from_logits"),
        (lambda: DBM(logits(4, 9).abs()), r"row 0 of the soft labels sums to .*, not to 1 within 0.001; they look like logits"),
        (lambda: DBM(GOOD * 1.002), "sums to 1.002"),
        (lambda: DBM(GOOD.index_fill(0, torch.tensor([2]), math.nan)), "not finite in 1 of 4 rows, the first 2: look for a diverged"),
        (lambda: DBM(GOOD[:1]), "soft labels of 1 images: at least 2 are needed"),
        (lambda: DBM(GOOD[:0]), r"soft labels of 0 images \(a class without images\): at least 2"),
        (lambda: DBM(GOOD[0]), r"soft labels of shape \(9,\): give a row an image"),
        (lambda: DBM(torch.stack([GOOD, GOOD])), "soft labels of several networks in one: .* one network at a time"),
        (lambda: DBM([GOOD.numpy(), GOOD.numpy()]), "soft labels of several networks in one"),
        (lambda: DBM({0: GOOD}), "soft labels of several networks in one"),  # type: ignore[arg-type]
        (lambda: DBM(PADDED), "each of the 4 rows has one exact 0, in 2 columns: .*padded"),
        (lambda: rzs.dbi(PADDED, [0, 0, 1, 1]), "each of the 4 rows has one exact 0, in 2 columns: .*padded"),
        (lambda: AM(GOOD, GOOD, 3), "the full network has 9 columns, 10 are wanted beside 9"),
        (lambda: AM(FULL, FULL, 3), "the full network has 10 columns, 11 are wanted beside 10"),
        (lambda: AM(GOOD, FULL, 10), "index=10 is outside the classes: allowed are 0 to 9"),
        (lambda: AM(GOOD, FULL, -1), "index=-1 is outside the classes: allowed are 0 to 9"),
        (lambda: AM(GOOD[:2], FULL, 3), "2 rows of the network without a class, 4 of the full one"),
        (lambda: AM(GOOD, FULL, 3, "mean"), "order='mean' is unknown; allowed: sum_then_norm, norm_then_mean"),
        (lambda: AM(GOOD, FULL, 3, norm=0), "norm=0, divisor=9"),
        (lambda: AM(GOOD, FULL, 3, divisor=0), "norm=1, divisor=0"),
        (lambda: AM(GOOD, logits(4), 3), "they look like logits: give probabilities, or call amalgam_metric_from_logits"),
        (lambda: rzs.amalgam_metric_from_logits(GOOD, GOOD, 3), "the full network has 9 columns, 10 are wanted"),
        (lambda: rzs.davies_bouldin_metric_from_logits(GOOD, 0), "temperature=0 is not allowed: above 0"),
        (lambda: rzs.davies_bouldin_metric_matched(logits(3, 9)), "logits of 3 images: at least 4"),
        (lambda: rzs.matched_temperature(torch.zeros(4, 9)), "no temperature gives a mean entropy of 1.648: .*tied.*at least 2.197"),
        (lambda: rzs.matched_temperature(logits(4, 9), 1.0), r"share=1.0 is outside \(0, 1\)"),
        (lambda: rzs.davies_bouldin_metric_normalised(GOOD, centre=True), "all 4 rows less their means are 0"),
        (lambda: rzs.mass(GOOD, 3, [3]), r"classes=\[3\] beside class 3: give at least one of 0 to 9, each once, without 3"),
        (lambda: rzs.mass(GOOD, 3, [2, 2]), r"classes=\[2, 2\]"),
        (lambda: rzs.mass(GOOD, 3, [10]), r"classes=\[10\]"),
        (lambda: rzs.relative_mass(GOOD, 3, []), r"classes=\[\]"),
        (lambda: rzs.dbi(GOOD, [0, 0, 0, 0]), r"name 1 clusters of 4 points"),
        (lambda: rzs.dbi(GOOD, [0, 1]), r"labels of shape \(2,\) name 2 clusters of 4 points"),
        (lambda: rzs.dbi(GOOD, [0, 0, 7, 7]), "clusters 0 and 7 have one centroid"),
    ],
)  # fmt: skip
def test_what_may_be_given_by_mistake_ends_in_one_sentence(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(BadInput, match=said) as found:
        call()
    assert "\n" not in str(found.value)
