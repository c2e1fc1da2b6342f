"""DkNN against brute force in float64 and p-values by hand; the guarantee of its p-values; ties, doubles, dead units; what is refused."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from pathlib import Path

import pytest
import torch
from problems import generator
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.measures import dknn, nearest_points
from reprolib.measures.dknn import DkNN, Prediction
from reprolib.measures.nearest_points import Neighbourhood

WIDTHS = {"early": (3, 4, 4), "pooled": (20,)}


def layers(n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {name: torch.randn(n, *shape, generator=generator(seed), dtype=dtype) for name, shape in WIDTHS.items()}


def labels(n: int, n_classes: int = 3, seed: int = 0) -> Tensor:
    return torch.randint(n_classes, (n,), generator=generator(seed))


def classed(n: int, seed: int, noise: float = 1.5) -> tuple[dict[str, Tensor], Tensor]:
    """Features of three overlapping classes, exchangeable whatever the seed, and their labels."""
    y, middles = labels(n, seed=seed), layers(3, seed=99)
    return {name: middles[name][y] + noise * x for name, x in layers(n, seed + 1_000).items()}, y


def fitted(k: int = 5, variant: str = "smoothed") -> DkNN:
    (index, y), (held_out, y_held_out) = classed(60, 1), classed(40, 2)
    return DkNN(index, y, k, variant).calibrate(held_out, y_held_out)


def line(angles: list[float]) -> dict[str, Tensor]:
    """One layer of points on the unit circle: the nearest are those of the nearest angles (degrees)."""
    turns = torch.tensor(angles).deg2rad()
    return {"angle": torch.stack([turns.cos(), turns.sin()], dim=1)}


def by_brute_force(index: dict[str, Tensor], y: Tensor, x: dict[str, Tensor], k: int) -> Tensor:
    """Counts (n, layers, classes), point by point, in float64."""
    found = []
    for name, points in index.items():
        unit = torch.nn.functional.normalize(points.double().flatten(1), dim=1)
        mean = unit.mean(dim=0)
        queries = torch.nn.functional.normalize(x[name].double().flatten(1), dim=1) - mean
        near = [(query - (unit - mean)).norm(dim=1).argsort(stable=True)[:k] for query in queries]
        found.append(torch.stack([y[of].bincount(minlength=3) for of in near]))
    return torch.stack(found, dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_counts_agree_with_brute_force_in_float64(dtype: torch.dtype) -> None:
    index, y, x = layers(300, 1, dtype), labels(300), layers(40, 2, dtype)
    for k in (1, 75, 300):
        counts = DkNN(index, y, k).counts(x)
        assert torch.equal(counts.long(), by_brute_force(index, y, x, k))
        assert (counts.sum(dim=2) == k).all()  # none is missing


def test_what_fp32_cannot_tell_apart_is_decided_in_float64() -> None:
    points, queries = (1 + 1e-5 * torch.randn(n, 64, generator=generator(n)) for n in (200, 30))  # nearly one direction,
    points[0] *= -1  # but for one that keeps the mean away from the others
    there = Neighbourhood(points)
    z, of = there.z.double(), there.prepared(queries)[0].double()
    truth = (z - of[:, None]).square().sum(dim=2).topk(20, largest=False).indices.sort().values
    by_product = (there.half_squares - of.float() @ z.float().T).topk(20, largest=False).indices.sort().values
    assert not torch.equal(by_product, truth)  # the case is one
    assert torch.equal(there.nearest(queries, 20).sort().values, truth)


def test_neighbours_at_one_distance_are_taken_in_the_order_of_the_index() -> None:
    points = torch.randn(20, 8, generator=generator(1))[torch.randint(20, (200,), generator=generator(2))]  # each several times
    there, queries = Neighbourhood(points), torch.randn(15, 8, generator=generator(3))
    far = (there.z.double() - there.prepared(queries)[0].double()[:, None]).square().sum(dim=2)
    for k in (1, 30, 199):
        assert torch.equal(there.nearest(queries, k).sort().values, far.argsort(stable=True)[:, :k].sort().values)


def test_points_are_normalised_then_centred_and_lose_nothing_to_a_common_direction() -> None:
    for x in (torch.randn(50, 8, generator=generator(1)), 1 + 1e-4 * torch.randn(50, 8, generator=generator(1))):
        unit = torch.nn.functional.normalize(x.double(), dim=1)
        expected = unit - unit.mean(dim=0)
        z = Neighbourhood(x).z
        assert z.dtype == torch.float32
        assert (z - expected).abs().max() <= 1e-7 * expected.abs().max()


@pytest.mark.parametrize("tile", [1, 700])
def test_batches_tiles_and_calls_change_nothing(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = layers(33, 3)
    whole = fitted()
    expected = (*whole.predict(x), whole.p_values(x), whole.counts(x))
    monkeypatch.setattr(nearest_points, "TILE", tile)
    monkeypatch.setattr(nearest_points, "ROWS", 7)
    again = fitted()
    parts = [{name: rows[i : i + 4] for name, rows in x.items()} for i in range(0, 33, 4)]
    found = [(*again.predict(part), again.p_values(part), again.counts(part)) for part in parts]
    for one, several in zip(expected, zip(*found, strict=True), strict=True):
        assert torch.equal(one, torch.cat(several))


def test_nothing_given_is_changed() -> None:
    (index, y), (held_out, y_held_out), x = classed(60, 1), classed(40, 2), layers(10, 3)
    before = [{name: rows.clone() for name, rows in given.items()} for given in (index, held_out, x)]
    found = DkNN(index, y, 5).calibrate(held_out, y_held_out)
    counts = found.counts(x)
    kept = counts.clone()
    found.predict(x), found.predict(counts), found.support(counts, found.predict(counts).prediction)
    assert torch.equal(counts, kept)
    assert all(torch.equal(now[name], then[name]) for now, then in zip((index, held_out, x), before, strict=True) for name in now)


# --- p-values


def test_p_values_and_answers_are_those_of_the_formula_point_by_point() -> None:
    found, x = fitted(), layers(25, 3)
    assert found.calibration is not None
    scores, p, counts = found.calibration.tolist(), found.p_values(x), found.counts(x)
    assert len(scores) == 40  # zeros among them are kept
    assert scores[0] == 0
    for i in range(25):
        a = [sum(int(counts[i, of, other]) for of in range(2) for other in range(3) if other != j) for j in range(3)]
        by_hand = [(1 + 40 - bisect_left(scores, a[j])) / 41 for j in range(3)]
        assert p[i].tolist() == pytest.approx(by_hand, abs=1e-15)
        prediction, confidence, credibility = (one[i].item() for one in found.predict(x))
        assert prediction == min(range(3), key=lambda j: (-by_hand[j], a[j], j))
        assert (credibility, confidence) == pytest.approx((max(by_hand), 1 - sorted(by_hand)[1]))


def test_p_values_of_the_true_label_are_super_uniform() -> None:
    index, y = classed(200, 1)
    p = []
    for seed in range(20):  # calibration points drawn anew each time: with one draw all p-values share its error
        (held_out, y_held_out), (x, truth) = classed(99, 10 + seed), classed(100, 50 + seed)
        found = DkNN(index, y, 15).calibrate(held_out, y_held_out)
        p.append(found.p_values(x)[torch.arange(100), truth])
    share_of = torch.stack(p)
    for level in (0.05, 0.1, 0.2):
        by_draw = (share_of <= level).double().mean(dim=1)
        assert by_draw.mean() <= level + 3 * by_draw.std() / math.sqrt(20)
        assert by_draw.mean() > level / 3  # and they are no constants


def public(variant: str, held_out: list[float], y: list[int]) -> DkNN:
    """Two of each class around 0 and 180 degrees, k = 2, and calibration points with these labels."""
    return DkNN(line([0, 4, 180, 184]), torch.tensor([0, 0, 1, 1]), 2, variant).calibrate(line(held_out), torch.tensor(y))


def test_the_public_variant_leaves_out_zeros_and_does_not_smooth() -> None:
    cases = [1, 2, 181, 182, 3], [0, 0, 1, 1, 1]  # nonconformity 0, 0, 0, 0, 2
    ours, theirs = public("smoothed", *cases), public("cleverhans", *cases)
    assert ours.calibration is not None
    assert theirs.calibration is not None
    assert ours.calibration.tolist() == [0, 0, 0, 0, 2]
    assert theirs.calibration.tolist() == [2]
    x = line([1.5])
    assert ours.p_values(x).tolist() == [[1, 2 / 6]]
    assert theirs.p_values(x).tolist() == [[1, 1]]  # what it does: one score, and both labels are as usual as it


def test_the_public_variant_abstains_where_no_label_is_as_usual_as_any_score() -> None:
    index, y = line([0, 1, 2, 90, 91, 92]), torch.tensor([0, 1, 2, 3, 3, 0])
    ours, theirs = (DkNN(index, y, 3, variant).calibrate(line([91.5]), torch.tensor([3])) for variant in dknn.VARIANTS)
    x = line([1.2, 91.4])  # a = 2 for each of three labels, above the only score, 1; then a = 1
    answer = theirs.predict(x)
    assert answer.prediction.tolist() == [-1, 3]
    assert answer.credibility.tolist() == [0, 1]
    assert theirs.support(x, answer.prediction)["angle"].tolist() == [0, 2 / 3]
    assert ours.predict(x).prediction.tolist() == [0, 3]
    assert ours.predict(x).credibility.tolist() == [1 / 2, 1]


def test_the_public_variant_says_where_it_has_no_score_left() -> None:
    with pytest.raises(
        BadInput, match='all 2 calibration scores are 0, which "cleverhans" leaves out: take variant="smoothed", or a larger k'
    ):
        public("cleverhans", [1, 181], [0, 1])


def test_a_tie_goes_to_fewer_dissenting_neighbours_not_to_the_lowest_class() -> None:
    found = DkNN(line([0, 1, 2, 180, 181, 182]), torch.tensor([0, 1, 1, 0, 0, 1]), 3).calibrate(line([90.0]), torch.tensor([0]))
    found.calibration = torch.tensor([3, 3, 3])  # no label of the query has more dissenters: all p-values are 1
    x = line([1.1])
    assert found.p_values(x).tolist() == [[1, 1]]
    assert found.predict(x) == Prediction(
        *(torch.tensor([value], dtype=of) for value, of in ((1, torch.int64), (0, torch.double), (1, torch.double)))
    )


def test_many_queries_are_answered_at_once_and_equal_to_one_by_one() -> None:
    found, x = fitted(), layers(7, 5)
    for i in range(7):
        alone = found.predict({name: rows[i : i + 1] for name, rows in x.items()})
        assert [one.item() for one in alone] == [one[i].item() for one in found.predict(x)]


# --- support, dead units, disjointness


def test_support_is_the_share_of_neighbours_with_the_predicted_label() -> None:
    found, x = fitted(), layers(12, 3)
    predicted = torch.tensor([0, 1, 2, -1, 7, 0, 1, 2, 0, 1, 2, 0])
    counts = found.counts(x)
    for i, name in enumerate(WIDTHS):
        expected = [counts[at, i, label].item() / 5 if 0 <= label < 3 else 0 for at, label in enumerate(predicted.tolist())]
        assert found.support(x, predicted)[name].tolist() == expected
    assert list(found.support(counts, predicted)) == list(WIDTHS)


def test_classes_are_those_of_the_labels_whatever_their_numbers() -> None:
    (index, y), (held_out, y_held_out), x = classed(60, 1), classed(40, 2), layers(10, 3)
    numbers = torch.tensor([3, 40, 900])
    found = DkNN(index, numbers[y], 5).calibrate(held_out, numbers[y_held_out])
    assert found.classes.tolist() == [3, 40, 900]
    assert torch.equal(found.predict(x).prediction, numbers[fitted().predict(x).prediction])


def test_dead_rows_stay_zero_are_counted_and_make_nothing_infinite() -> None:
    index, y = layers(30, 1), labels(30)
    index["pooled"][:4] = 0
    found = DkNN(index, y, 4)
    assert found.n_zero_rows == {"early": 0, "pooled": 4}
    x = layers(3, 2)
    x["pooled"][0] = 0
    assert found.counts(x)[0, 1].tolist() == y[:4].bincount(minlength=3).tolist()  # its nearest are the other dead ones
    for part in found.calibrate(x, y[:3]).predict(layers(5, 6)):
        assert part.double().isfinite().all()
    silent = DkNN({"a": torch.zeros(30, 4)}, y, 5)
    assert silent.counts({"a": torch.zeros(2, 4)})[:, 0].tolist() == 2 * [y[:5].bincount(minlength=3).tolist()]


def test_lengths_do_not_matter_however_large_or_small() -> None:
    index, y, x = layers(50, 1, torch.float64), labels(50), layers(9, 2, torch.float64)
    scale = 10.0 ** torch.linspace(-300, 300, 50, dtype=torch.float64)
    scaled = {name: rows * scale.view(-1, *[1] * (rows.ndim - 1)) for name, rows in index.items()}
    assert torch.equal(DkNN(scaled, y, 5).counts({name: 1e200 * rows for name, rows in x.items()}), DkNN(index, y, 5).counts(x))


def test_points_of_the_index_are_told_by_all_layers_up_to_rounding() -> None:
    index, y = layers(50, 1), labels(50)
    found = DkNN(index, y, 5)
    assert found.in_index(index).all()
    assert not found.in_index(layers(50, 2)).any()
    near = {name: rows * (1 + 1e-7) for name, rows in index.items()}
    assert found.in_index(near).all()
    assert not found.in_index({name: 1.01 * rows for name, rows in index.items()}).any()
    assert not found.in_index({"early": index["early"], "pooled": layers(50, 2)["pooled"]}).any()
    dead = {"early": index["early"], "pooled": torch.zeros(50, 20)}
    assert found.in_index(dead).all()  # what is dead tells nothing apart
    assert not found.in_index({name: 0 * rows for name, rows in index.items()}).any()


def test_gradients_inference_mode_and_autocast_change_nothing() -> None:
    x = layers(9, 3)
    expected = fitted().p_values(x)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fitted().p_values(x), expected)
    assert torch.equal(fitted().p_values({name: rows.requires_grad_() for name, rows in x.items()}), expected)


# --- what is refused


@pytest.mark.parametrize(
    ("index", "y", "more", "words"),
    [
        (layers(9), labels(9), {"k": 10}, "k=10 is above the 9 points of the index: give a k of at most 9, or more points"),
        (layers(9), labels(9), {"k": 0}, "k=0 is not allowed: give a whole number of at least 1"),
        (layers(9), labels(9), {"k": 2.5}, "k=2.5 is not allowed: give a whole number of at least 1"),
        (layers(9), labels(9), {"variant": "cleverhan"}, "variant 'cleverhan' is unknown; allowed: smoothed, cleverhans; did you mean"),
        (layers(9), labels(8), {}, r"labels are torch.int64 of shape \(8,\) for 9 .*: give whole class numbers \(9,\)"),
        (layers(9), labels(9) * 0, {}, "labels run from 0 to 0: give class numbers from 0, of at least two classes"),
        (layers(9), labels(9) - 1, {}, "labels run from -1 to 1: give class numbers from 0"),
        ({"a": torch.ones(9, 2, dtype=torch.long)}, labels(9), {}, r"layer 'a' is torch.int64 of shape \(9, 2\): give floating point features"),
        ({"a": torch.ones(9)}, labels(9), {}, r"layer 'a' is torch.float32 of shape \(9,\): give floating point features \(n, ...\)"),
        ({"a": torch.ones(9, 2).numpy()}, labels(9), {}, "layer 'a' is a ndarray: give floating point features"),
        ({"a": torch.ones(9, 2) / 0}, labels(9), {}, r"layer 'a' holds values that are not finite in samples \[0, 1, .*: look at the network"),
        ({"a": torch.ones(9, 2), "b": torch.ones(8, 2)}, labels(9), {}, r"different numbers of points, \{'a': 9, 'b': 8\}: give all layers of"),
        ({}, labels(9), {}, "no layers given: give features by layer"),
        (torch.ones(9, 2), labels(9), {}, r"a Tensor given: give features by layer, \{name: \(n, ...\)\}"),
    ],
)  # fmt: skip
def test_an_index_that_is_none_is_refused_in_words(index: dict[str, Tensor], y: Tensor, more: dict[str, int], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        DkNN(index, y, **({"k": 3} | more))  # type: ignore[arg-type]


def test_other_layers_than_at_fitting_are_refused_in_words() -> None:
    found, good = fitted(), layers(4, 3)
    wrong = [
        ({"early": good["early"]}, r"layers \['early'\] are not those of the index, \['early', 'pooled'\]: give the same layers"),
        (good | {"late": good["pooled"]}, r"layers \['early', 'pooled', 'late'\] are not those of the index"),
        (
            good | {"pooled": torch.ones(4, 7)},
            "layer 'pooled' has 7 features a point, the index 20: give the same layer, pooled in the same way",
        ),
        (good | {"pooled": torch.ones(3, 20)}, "different numbers of points"),
        (good | {"pooled": good["pooled"] * math.nan}, "layer 'pooled' holds values that are not finite"),
    ]
    for given, words in wrong:
        for ask in (found.predict, found.p_values, found.counts, found.in_index, lambda given: found.calibrate(given, labels(4))):
            with pytest.raises(BadInput, match=words):
                ask(given)
    with pytest.raises(BadInput, match=r"tensor of shape \(4, 20\) is given: give features by layer"):
        found.predict(good["pooled"])
    assert found.predict(dict(reversed(good.items()))).prediction.tolist() == found.predict(good).prediction.tolist()  # order is free


def test_calibration_that_is_none_is_refused_in_words() -> None:
    index, y = layers(30, 1), labels(30)
    found = DkNN(index, y, 5)
    with pytest.raises(BadInput, match=r"there are no calibration scores yet: call calibrate\(layers, labels\) with held-out points first"):
        found.predict({})  # said before any work
    mixed = {name: torch.cat([layers(6, 2)[name], rows[:10]]) for name, rows in index.items()}
    with pytest.raises(BadInput, match=r"10 calibration points, the first \[6, 7, .*\], are points of the index: give held-out points"):
        found.calibrate(mixed, labels(16))
    with pytest.raises(BadInput, match=r"calibration label 5 is none of the index, which has \[0, 1, 2\]: leave such points out"):
        found.calibrate(layers(4, 2), torch.tensor([0, 1, 5, 2]))
    with pytest.raises(BadInput, match=r"labels are torch.int64 of shape \(3,\) for 4"):
        found.calibrate(layers(4, 2), labels(3))
    assert found.calibration is None


def test_the_lines_of_the_page_answer() -> None:
    page = (Path(__file__).parents[2] / "docs" / "library.md").read_text()
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "DkNN" in block)
    (index, y), (held_out, y_held_out), (x, truth) = classed(300, 1, 0.5), classed(60, 2, 0.5), classed(40, 3, 0.5)
    names = {"train_features": index, "held_out_features": held_out, "features": x}
    given = {name: of["pooled"] for name, of in names.items()} | {"train_labels": y, "held_out_labels": y_held_out}
    exec(block, given)
    assert (given["prediction"] == truth).double().mean() > 0.9
    assert given["confidence"].shape == given["credibility"].shape == (40,)
