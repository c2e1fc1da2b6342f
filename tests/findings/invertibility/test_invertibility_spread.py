"""The spread over starts is 0 where all starts end in one image, 1 for random images, and no failure lowers it."""

import problems
import pytest
import torch
from inverses import asked, carded, of, planted, planted_set

from reprolib.findings.invertibility import spread
from reprolib.findings.invertibility.inverting import Eyes, make_task
from reprolib.judging.tidy import rounded

ALL, HALF, NONE = [True] * 12, [True, False] * 6, [False] * 12
DECIDING = {"noise": 0.2, "image": 0.1}
QUANTITIES = [f"start_spread{part}" for part in ("", "_robust_judge", "_ssim", "_pixel_correlation", "_lowpass_mse")]


@pytest.fixture(scope="module")
def task():
    return make_task(planted_set(), 12, 2)


@pytest.fixture(scope="module")
def eyes():
    return Eyes({"standard": problems.network(seed=5), "robust": problems.network(seed=6)})


def measured(inverted, task, eyes, taus):
    return spread.of(asked({}, eyes, task, inverted=inverted, taus=taus))


def with_inverses(inverted, images):
    """The same runs, each start's inverses replaced by its own images."""
    for run, found in zip(inverted.runs.values(), images, strict=True):
        run.at = dict.fromkeys(run.at, found)
    return inverted


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_the_spread_of_one_image_found_from_every_start_is_zero(task, eyes, quantity):
    rows = measured([planted(task, carded(), "standard", ALL, at=task.targets)], task, eyes, DECIDING).rows
    found = of(rows, "INV-4", quantity)
    assert len(found) == 12 * 3
    assert found["value"].to_numpy() == pytest.approx(0, abs=1e-5)
    assert found["reached"].all()


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_the_spread_of_unrelated_images_is_one(task, eyes, quantity):
    unrelated = [planted_set(seed=seed).x[:12].float() / 255 for seed in (7, 8, 9)]
    rows = measured([with_inverses(planted(task, carded(), "standard", ALL), unrelated)], task, eyes, DECIDING).rows
    assert of(rows, "INV-4", quantity)["value"].mean() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_inverses_that_differ_less_have_a_smaller_spread(task, eyes, quantity):
    def mean_at(size):
        images = [(task.targets + size * problems.images(12, 3, 16, 16, seed=seed, low=-1)).clamp(0, 1) for seed in (1, 2, 3)]
        rows = measured([with_inverses(planted(task, carded(), "standard", ALL), images)], task, eyes, DECIDING).rows
        return of(rows, "INV-4", quantity)["value"].mean()

    assert 0 < mean_at(0.05) < mean_at(0.2) < mean_at(0.5)


def test_a_pair_is_as_far_apart_as_its_images_and_one_where_either_was_not_reached():
    one, other = torch.zeros(3, 3, 2, 2), torch.full((3, 3, 2, 2), 5.0)

    def difference(a, b):
        return (a - b).abs().mean(dim=(1, 2, 3))

    assert spread.apart(one, other, torch.tensor([True, False, True]), difference, 2.0).tolist() == [2.5, 1.0, 2.5]


def test_a_network_that_reaches_half_of_its_targets_scores_worse_than_one_that_reaches_all_at_equal_distance(task, eyes):
    runs = [planted(task, carded(0), "standard", ALL), planted(task, carded(0, "l2"), "robust", HALF)]
    rows = measured(runs, task, eyes, DECIDING).rows
    whole, part = of(rows, "INV-4", "start_spread"), of(rows, "INV-4", "start_spread", "robust")
    for pair in ("noise_0+noise_1", "noise_0+image", "noise_1+image"):
        every, half = (frame[frame["unit_2"] == pair] for frame in (whole, part))
        assert every["unit"].tolist() == half["unit"].tolist() == [str(i) for i in task.ids]  # none is dropped
        assert half["reached"].tolist() == HALF
        assert half["value"].to_numpy()[HALF] == pytest.approx(every["value"].to_numpy()[HALF])
        assert half["value"].to_numpy()[[not one for one in HALF]] == pytest.approx(1)
    assert part["value"].mean() > whole["value"].mean() + 0.05


def test_a_network_that_reaches_nothing_is_no_better_than_random_images_although_its_starts_are_alike(task, eyes):
    near = eyes.distance("standard", task.starts["noise_0"], task.starts["noise_1"]).mean()
    assert near < 0.7 * eyes.distance("standard", task.targets, task.targets.roll(1, 0)).mean()
    rows = measured([planted(task, carded(), "standard", NONE)], task, eyes, DECIDING).rows
    for quantity in QUANTITIES:
        assert (of(rows, "INV-4", quantity)["value"] == 1).all()
    assert not rows["reached"].any()


def test_each_kind_of_start_is_looked_at_at_its_own_tau(task, eyes):
    inverted = planted(task, carded(), "standard", ALL)
    inverted.runs["image"].reached[0.1] = torch.tensor(NONE)
    rows = measured([inverted], task, eyes, DECIDING).rows
    assert set(rows.loc[rows["reached"], "unit_2"]) == {"noise_0+noise_1"}
    assert measured([inverted], task, eyes, {"noise": 0.1, "image": 0.2}).rows["reached"].all()


def test_only_networks_with_several_starts_have_a_spread_and_the_row_names_them(task, eyes):
    both, one = planted(task, carded(0), "untrained", ALL), planted(task, carded(1), "blur", ALL)
    del both.runs["image"], one.runs["image"], one.runs["noise_1"]
    rows = measured([planted(task, carded(2), "standard", ALL), both, one], task, eyes, DECIDING).rows
    assert set(of(rows, "INV-4", "start_spread")["unit_2"]) == {"noise_0+noise_1", "noise_0+image", "noise_1+image"}
    assert set(of(rows, "INV-4", "start_spread", "untrained")["unit_2"]) == {"noise_0+noise_1"}
    assert "blur" not in set(rows["arm"])
    assert len(rounded(rows)) == len(rows)
    assert set(rows["quantity"]) == set(QUANTITIES)


def test_random_pairs_are_the_same_in_every_run_and_never_of_one_image(task):
    one, other = spread._random_pairs(task.typical)
    torch.rand(3)
    assert torch.equal(one, spread._random_pairs(task.typical)[0])
    assert len(one) == spread.N_PAIRS
    assert (one - other).flatten(1).norm(dim=1).min() > 1
