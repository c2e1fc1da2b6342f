"""Every network walks between the same pairs from the same noise, and what never changes follows nothing."""

from collections import Counter

import pandas as pd
import problems
import pytest
import torch
from inverses import asked
from planting import judge
from scipy import stats

from reprolib.data.images import images as labelled
from reprolib.findings.invertibility import interpolating, inverting
from reprolib.findings.invertibility.interpolating import CLAIM, rank_correlation, unevenness, walk
from reprolib.findings.invertibility.inverting import Eyes
from reprolib.findings.invertibility.pairs import make_pairs
from reprolib.judging.ledger import load_claims
from reprolib.judging.tidy import rounded
from reprolib.perturb.interpolation import Interpolation, mixed
from reprolib.perturb.inversion import noise_start

CLASSES = ("a", "b", "c", "d")
KNOBS = {"n_pairs": 8, "pair_steps": 5, "pair_step": 0.2, "pool": 2}


def planted_set(n: int = 80, side: int = 16):
    """n random images, labelled in an irregular order."""
    x = (problems.images(n, 3, side, side) * 255).round().to(torch.uint8)
    return labelled(x, torch.randperm(n, generator=problems.generator(1)) % len(CLASSES), CLASSES, "planted")


def outside(n: int = 6, side: int = 16):
    return problems.images(n, 3, side, side, seed=7)


def carded(seed: int = 0, recipe: str = "std"):
    """A network with the card and the hash that measuring asks for."""
    network = problems.network(seed=seed)
    network.sha256 = f"{recipe}{seed}".encode().hex().ljust(64, "0")
    network.card = {"name": f"{recipe}-s{seed}", "description": {"recipe": {"id": recipe}, "architecture": "tinycnn", "seed": seed}}
    return network


def measure(nets, judges):
    """INV-6 on the planted images."""
    return interpolating.of(asked(nets, Eyes(judges), images=planted_set(), outside={"outside": outside()}, **KNOBS))


@pytest.fixture(scope="module")
def judges():
    return {"standard": problems.network(seed=5), "robust": problems.network(seed=6)}


@pytest.fixture(scope="module")
def nets():
    return {"standard": [carded(0), carded(1)], "robust": [carded(2, "l2")], "gauss": [carded(3, "gauss")]}


@pytest.fixture(scope="module")
def measured(nets, judges):
    return measure(nets, judges)


@pytest.fixture(scope="module")
def pairs():
    return make_pairs(planted_set(), outside(), 8)


def of(rows, quantity: str, arm: str = "standard", seed: int = 0):
    """The rows of a quantity in one network, by unit."""
    found = rows[(rows["quantity"] == quantity) & (rows["arm"] == arm) & (rows["seed"] == seed)]
    return found.set_index("unit")


# --- the two numbers


def test_what_rises_with_the_weight_has_rank_correlation_one_whatever_its_shape():
    weight = torch.linspace(0, 1, 10)
    rising = torch.stack([weight, weight**5, (5 * weight).sigmoid(), weight - 3])
    assert rank_correlation(rising).tolist() == pytest.approx([1] * 4)
    assert rank_correlation(-rising).tolist() == pytest.approx([-1] * 4)
    assert rank_correlation(rising.flip(1)).tolist() == pytest.approx([-1] * 4)


def test_a_preference_that_never_changes_follows_nothing():
    assert rank_correlation(torch.full((2, 10), 0.7)).tolist() == [0, 0]
    assert rank_correlation(torch.cat([torch.zeros(1, 10), torch.arange(10).view(1, 10).float()])).tolist() == pytest.approx([0, 1])


def test_the_rank_correlation_is_spearmans_with_and_without_ties():
    values = torch.randn(20, 10, generator=problems.generator()).double()
    values[10:] = values[10:].round()
    expected = [stats.spearmanr(range(10), row).statistic for row in values.numpy()]
    assert len(set(values[10].tolist())) < 10
    assert rank_correlation(values).tolist() == pytest.approx(expected, abs=1e-12)


def test_equal_steps_are_even_and_one_jump_is_the_most_uneven():
    sizes = torch.tensor([[2.0] * 9, [0.0] * 8 + [5.0], [1.0, 3.0] * 4 + [2.0]])
    assert unevenness(sizes).tolist() == pytest.approx([0, 8**0.5, (8 / 9) ** 0.5 / 2])
    assert unevenness(10 * sizes).tolist() == pytest.approx(unevenness(sizes).tolist())


def test_what_never_moves_is_as_uneven_as_one_jump_and_no_number_is_missing():
    assert unevenness(torch.zeros(1, 9)).tolist() == pytest.approx([8**0.5])
    assert unevenness(torch.full((1, 9), 1e-30)).tolist() == pytest.approx([0], abs=1e-6)


# --- the pairs


def test_half_of_the_pairs_cross_classes_a_quarter_lies_outside_and_a_quarter_within_a_class(pairs):
    assert pairs.kinds == ["across"] * 4 + ["ood"] * 2 + ["within"] * 2
    assert Counter(make_pairs(planted_set(), outside(), 10).kinds) == {"across": 6, "ood": 2, "within": 2}
    assert (pairs.y_left[:4] != pairs.y_right[:4]).all()
    assert (pairs.y_left[6:] == pairs.y_right[6:]).all()
    assert (pairs.y_left[4:6] == -1).all()
    assert pairs.places("ood") == [4, 5]
    assert set(pairs.y_left[:4].tolist()) == {0, 1, 2, 3}


def test_every_pair_of_classes_is_crossed_before_one_comes_again():
    many = make_pairs(planted_set(160), outside(12), 24)
    crossed = Counter(zip(many.y_left[:12].tolist(), many.y_right[:12].tolist(), strict=True))
    assert crossed == Counter((a, b) for a in range(4) for b in range(4) if a != b)


def test_a_pair_is_the_images_its_unit_names_and_no_image_is_in_two():
    images, ood = planted_set(), outside()
    pairs = make_pairs(images, ood, 8)
    named = [unit.split("-") for unit in pairs.units]
    for i, sides in enumerate(named):
        for name, image in zip(sides, (pairs.left[i], pairs.right[i]), strict=True):
            source = ood[int(name.removeprefix("ood"))] if name.startswith("ood") else images.x[int(name)].float() / 255
            assert torch.equal(image, source), name
    assert len({name for sides in named for name in sides}) == 16
    for i in (0, 1, 2, 3, 6, 7):
        assert [int(images.y[int(name)]) for name in named[i]] == [int(pairs.y_left[i]), int(pairs.y_right[i])]
    assert named[4] == ["ood0", "ood3"]  # halves of the set meet, as sets may be sorted by class


def test_two_sets_of_pairs_are_the_same_whatever_was_drawn_before(pairs):
    torch.rand(3)
    again = make_pairs(planted_set(), outside(), 8)
    assert again.units == pairs.units
    assert torch.equal(again.left, pairs.left)


# --- the walks


def test_every_network_starts_every_point_of_a_pair_from_the_same_noise_also_where_it_walks_fewer_pairs(repository, pairs):
    still = {"steps": 1, "step": 1e-9, "pool": 2}
    every = walk(carded(), pairs, range(8), "noise", **still)
    noise = noise_start(pairs.left.shape, seed=0)
    torch.testing.assert_close(every.x, noise.unsqueeze(1).expand_as(every.x), rtol=0, atol=1e-6)
    assert (noise[0] - noise[1]).abs().max() > 0.1
    some = walk(carded(2), pairs, [0, 1, 5], "noise", **still)
    torch.testing.assert_close(some.x, every.x[[0, 1, 5]], rtol=0, atol=1e-6)
    blend = walk(carded(), pairs, range(8), "blend", **still)
    torch.testing.assert_close(blend.x, mixed(pairs.left, pairs.right), rtol=0, atol=1e-6)


def test_a_walk_is_measured_once_and_belongs_to_its_network_pairs_and_knobs(repository, pairs, monkeypatch):
    told, base = [], {"places": [0, 1], "start": "noise", "steps": 2, "step": 0.2, "pool": 2}
    first = walk(carded(), pairs, report=told.append, **base)
    assert told == ["std-s0: interpolating 2 pairs from noise, 2 steps, 2 x 2 code"]
    changes = ({"places": [0, 2]}, {"start": "blend"}, {"steps": 3}, {"step": 0.1}, {"pool": 1})
    for changed in changes:
        walk(carded(), pairs, report=told.append, **(base | changed))
    walk(carded(1), pairs, report=told.append, **base)
    walk(carded(), make_pairs(planted_set(), 1 - outside(), 8), report=told.append, **(base | {"places": [4, 5]}))
    walk(carded(), pairs, report=told.append, **(base | {"places": [4, 5]}))  # other images from outside
    assert len(told) == 4 + len(changes)
    monkeypatch.setattr(interpolating, "interpolate", lambda *given, **more: pytest.fail("measured again"))
    again = walk(carded(), pairs, report=told.append, **base)
    assert torch.equal(again.x, first.x)
    assert torch.equal(again.distance, first.distance)
    assert len(told) == 4 + len(changes)


# --- the rows


def test_the_rows_are_those_the_claim_reads_and_no_others_decide(measured):
    rows = rounded(measured.rows)
    assert set(rows["claim"]) == {CLAIM}
    claim = load_claims()[CLAIM]
    shown = {"rank_correlation@crossfade", "preference", "d_rel", "zero_gradient_share"}
    assert set(rows["quantity"]) == {claim.quantity, *(part.quantity for part in claim.parts)} | shown


def test_the_rows_are_judged_and_every_part_has_its_estimate(measured):
    cards = [
        {"claim": "networks", "quantity": quantity, "arm": role, "recipe": recipe, "architecture": "tinycnn", "seed": seed,
         "network": f"{recipe}{seed}".encode().hex().ljust(64, "0")[:12], "unit": "test", "unit_2": "", "value": value, "reached": True}
        for role, recipe, seed, value in (("standard", "std", 0, 0.1), ("standard", "std", 1, 0.1), ("robust", "l2", 2, 0.6))
        for quantity in ("adversarial_accuracy", "clean_accuracy")
    ]  # fmt: skip
    entry = judge(CLAIM, pd.concat([measured.rows, pd.DataFrame(cards)]), "laptop")
    mean = {arm: measured.rows.query("quantity == 'rank_correlation' and arm == @arm")["value"].mean() for arm in ("standard", "robust")}
    assert entry["estimate"] == pytest.approx(mean["robust"] - mean["standard"], abs=1e-5)
    assert (entry["n"], *map(len, entry["networks"].values())) == (4, 2, 1)
    assert len(entry["parts"]) == 5
    assert all(part["estimate"] is not None for part in entry["parts"])


def test_units_are_pairs_and_their_kind_is_told(measured, pairs):
    for quantity, kinds in {
        "rank_correlation": ["across"], "rank_correlation_robust_judge": ["across"], "rank_correlation@blend": ["across"],
        "rank_correlation@ood": ["ood"], "rank_correlation@within": ["within"], "evenness": ["across", "ood", "within"],
    }.items():  # fmt: skip
        for arm in ("standard", "robust"):
            found = of(measured.rows, quantity, arm, seed=0 if arm == "standard" else 2)
            expected = {unit: kind for unit, kind in zip(pairs.units, pairs.kinds, strict=True) if kind in kinds}
            assert found["unit_2"].to_dict() == expected, quantity


def test_controls_walk_across_classes_only_and_from_noise_only(measured):
    control = measured.rows[measured.rows["arm"] == "gauss"]
    assert set(control["unit_2"]) == {"across"}
    assert set(control["quantity"]) == {"rank_correlation", "rank_correlation_robust_judge", "evenness", "d_rel", "zero_gradient_share"}


def test_the_curve_is_kept_of_the_first_network_of_an_arm_and_of_the_cross_fade(measured, pairs):
    curve = measured.rows[measured.rows["quantity"] == "preference"]
    assert set(zip(curve["arm"], curve["seed"], strict=True)) == {("crossfade", 0), ("standard", 0), ("robust", 2)}
    assert (curve.groupby("arm").size() == 40).all()
    assert set(curve["unit_2"]) == {f"across|{j}" for j in range(10)}
    for arm, quantity in (("standard", "rank_correlation"), ("crossfade", "rank_correlation@crossfade")):
        for unit, points in curve[curve["arm"] == arm].groupby("unit"):
            expected = stats.spearmanr(points["unit_2"].str[-1].astype(int), points["value"]).statistic
            assert of(measured.rows, quantity, arm)["value"][unit] == pytest.approx(expected)


def test_the_cross_fade_is_of_no_network_and_its_preference_is_the_judges_of_the_blend(measured, pairs, judges):
    faded = of(measured.rows, "preference", "crossfade")
    assert set(faded["network"]) == {"pixels"}
    for i in range(4):
        for j in (0, 4, 9):
            blend = (1 - j / 9) * pairs.left[i] + j / 9 * pairs.right[i]
            p = judges["standard"](blend[None]).softmax(dim=1)[0]
            row = faded[faded["unit_2"] == f"across|{j}"].loc[pairs.units[i]]
            assert row["value"] == pytest.approx((p[pairs.y_right[i]] - p[pairs.y_left[i]]).item(), abs=1e-5)


def planted_walk(monkeypatch, x):
    """The section where every network walks over the images `x` (pairs, 3, h, w at each point) instead of its own."""

    def walked(network, pairs, places, start, *knobs):
        some = x(pairs)[list(places)]
        return Interpolation(some, torch.zeros(some.shape[:2]), torch.zeros(some.shape[:2], dtype=torch.bool))

    monkeypatch.setattr(interpolating, "walk", walked)


def test_a_network_that_walks_the_cross_fade_scores_as_the_cross_fade_does(repository, nets, judges, monkeypatch):
    planted_walk(monkeypatch, lambda pairs: mixed(pairs.left, pairs.right))
    rows = measure(nets, judges).rows
    bare = of(rows, "rank_correlation@crossfade", "crossfade")["value"]
    for quantity in ("rank_correlation", "rank_correlation@blend"):
        pd.testing.assert_series_equal(of(rows, quantity)["value"], bare, check_names=False)
    for kind in ("ood", "within"):
        assert (of(rows, f"rank_correlation@{kind}")["value"] > 0.95).all()  # ever farther from the left image, ever nearer to the right


def test_a_network_that_never_leaves_its_start_follows_nothing_and_is_most_uneven(repository, nets, judges, monkeypatch):
    planted_walk(monkeypatch, lambda pairs: noise_start(pairs.left.shape, 0).unsqueeze(1).expand(-1, 10, -1, -1, -1))
    monkeypatch.setattr(inverting, "EYES_CHUNK", 1)  # some processors round one image differently by its place in the batch
    rows = measure(nets, judges).rows
    for quantity in ("rank_correlation", "rank_correlation_robust_judge"):
        assert (of(rows, quantity)["value"] == 0).all(), quantity
    assert of(rows, "evenness")["value"].to_numpy() == pytest.approx(8**0.5)


def test_the_robust_judge_is_asked_where_it_is_named(repository, nets, judges, measured):
    swapped = {"standard": judges["robust"], "robust": judges["standard"]}
    other = measure(nets, swapped).rows
    one, two = (of(rows, q)["value"] for rows, q in ((measured.rows, "rank_correlation"), (other, "rank_correlation_robust_judge")))
    pd.testing.assert_series_equal(one, two, check_names=False)
    assert not one.equals(of(other, "rank_correlation")["value"])


def test_pictures_are_shown_of_every_pair_with_the_names_of_its_classes(measured, pairs):
    assert [picture["unit"] for picture in measured.pictures] == pairs.units
    for i, picture in enumerate(measured.pictures):
        assert set(picture["strips"]) == {"crossfade", "standard", "robust"}
        assert set(picture["blend"]) == ({"standard", "robust"} if picture["kind"] == "across" else set())
        for x in (*picture["strips"].values(), *picture["blend"].values()):
            assert (x.shape, x.dtype) == ((10, 3, 16, 16), torch.uint8)
        assert torch.equal(picture["strips"]["crossfade"][9], (pairs.right[i] * 255).round().byte())
        expected = None if picture["kind"] == "ood" else tuple(CLASSES[y[i]] for y in (pairs.y_left, pairs.y_right))
        assert picture["names"] == expected
