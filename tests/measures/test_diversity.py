"""Kinds of input and natural preferences: closed forms, scikit-learn's AUROC, planted units, and each wrong input's sentence."""

from __future__ import annotations

import math
import re

import pytest
import torch
from problems import generator, images
from sklearn.metrics import roc_auc_score
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.measures import diversity as kinds


def maps(n: int = 37, units: tuple[int, ...] = (5, 7)) -> list[Tensor]:
    """Maps of two layers, of ReLUs, so that many activations are equal."""
    return [torch.randn(n, c, 4, 3, generator=generator(c)).clamp(min=0) for c in units]


def batches(whole: list[Tensor], size: int) -> list[list[Tensor]]:
    return [list(parts) for parts in zip(*(one.split(size) for one in whole), strict=True)]


def test_top_images_are_those_of_all_activations_sorted_and_batches_do_not_matter() -> None:
    whole = maps()
    found = kinds.top_images(batches(whole, 16), k=6)
    once = kinds.top_images([whole], k=6)
    for one, other in ((found.by_largest, once.by_largest), (found.by_mean, once.by_mean)):
        assert torch.equal(one, other)
    torch.testing.assert_close(found.size, once.size)
    largest = torch.cat([one.amax(dim=(2, 3)) for one in whole], dim=1)
    assert torch.equal(found.by_largest, largest.sort(dim=0, descending=True, stable=True).indices[:6])
    torch.testing.assert_close(found.size, torch.cat([one.double().mean(dim=(0, 2, 3)) for one in whole]))
    assert found.by_largest.shape == (6, 12)


def test_of_equal_activations_the_earlier_image_comes_first_also_in_a_later_batch() -> None:
    found = kinds.top_images(batches([torch.zeros(9, 2, 1, 1)], 4), k=5)
    assert found.by_largest.T.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert found.size.tolist() == [0, 0]  # dead
    signed = kinds.top_images([[torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1)]], k=1)
    assert signed.size.tolist() == [1]  # a mean of 0 is not dead
    assert signed.by_mean.tolist() == [[1]]


def test_largest_and_mean_activation_choose_differently() -> None:
    one = torch.zeros(2, 1, 2, 2)
    one[0, 0, 0, 0], one[1] = 2.0, 1.0
    found = kinds.top_images([[one]], k=1)
    assert (found.by_largest.item(), found.by_mean.item()) == (0, 1)


def test_identical_images_have_no_diversity_and_random_ones_have_1_in_expectation() -> None:
    codes = torch.rand(60, 8, generator=generator())
    codes[:25] = codes[0] * torch.linspace(0.5, 3, 25)[:, None]  # a cosine knows no length
    same = torch.arange(25)[:, None]
    assert kinds.diversity(codes, same).item() == pytest.approx(0, abs=1e-12)
    drawn = torch.stack([torch.randperm(60, generator=generator(k))[:25] for k in range(4000)], dim=1)
    of_random = kinds.diversity(codes, drawn)
    assert abs(float(of_random.mean()) - 1) < 4 * float(of_random.std()) / math.sqrt(4000)
    assert kinds.diversity(codes, torch.arange(60)[:, None]).item() == pytest.approx(1, abs=1e-12)  # all images


def test_diversity_is_the_mean_over_pairs_of_one_minus_the_cosine() -> None:
    codes = torch.rand(9, 4, generator=generator())
    top = torch.tensor([[0, 4], [3, 5], [7, 8]])

    def by_hand(chosen: list[int]) -> float:
        pairs = [(i, j) for i in chosen for j in chosen if i < j]
        return sum(1 - float(torch.cosine_similarity(codes[i], codes[j], dim=0)) for i, j in pairs) / len(pairs)

    expected = [by_hand(one) / by_hand(list(range(9))) for one in top.T.tolist()]
    assert kinds.diversity(codes, top).tolist() == pytest.approx(expected, rel=1e-5)


def test_participation_ratio_is_the_number_of_equal_directions() -> None:
    axes = torch.cat([torch.eye(5), -torch.eye(5)])  # five equal directions
    assert kinds.participation_ratio(axes, torch.arange(10)[:, None]).item() == pytest.approx(5)
    line = torch.arange(10.0)[:, None] * torch.rand(1, 6, generator=generator())
    assert kinds.participation_ratio(line + 3, torch.arange(10)[:, None]).item() == pytest.approx(1)
    two = torch.tensor([[2.0, 0], [-2, 0], [0, 1], [0, -1]])  # eigenvalues 4 : 1
    assert kinds.participation_ratio(two, torch.arange(4)[:, None]).item() == pytest.approx(25 / 17)
    assert kinds.participation_ratio(torch.full((4, 3), 0.1), torch.arange(4)[:, None]).item() == 0


def test_class_entropy_is_0_for_one_class_and_1_for_all_alike() -> None:
    labels = torch.arange(12) % 4
    top = torch.stack([torch.arange(0, 12, 4).repeat(4)[:8], torch.arange(8), torch.tensor([0, 4, 8, 1, 5, 9, 0, 1])], dim=1)
    assert kinds.class_entropy(labels, top, 4).tolist() == pytest.approx([0, 1, 0.5])


def test_auroc_is_scikit_learns_for_every_unit_and_class_with_ties() -> None:
    values = torch.randn(50, 6, generator=generator()).clamp(min=0).mul(3).round()  # many ties
    values[:, 5] = 2  # constant
    labels = torch.randint(4, (50,), generator=generator(1)) * 2  # classes 0, 2, 4, 6
    found = kinds.auroc(values, labels)
    for unit in range(6):
        for column, label in enumerate((0, 2, 4, 6)):
            assert found[unit, column].item() == pytest.approx(roc_auc_score(labels.numpy() == label, values[:, unit].numpy()), abs=1e-12)
    assert found[5].tolist() == [0.5] * 4
    assert torch.equal(kinds.best_auroc(values, labels), found.amax(dim=1))


def test_a_unit_that_tells_a_class_has_1_and_permuted_labels_a_floor() -> None:
    labels = torch.arange(200) % 10
    values = torch.stack([(labels == 3).float(), torch.rand(200, generator=generator())], dim=1)
    best = kinds.best_auroc(values, labels)
    assert best[0] == 1
    floor = kinds.best_auroc(values, kinds.permuted(labels))
    assert floor[0] < 0.8
    assert sorted(kinds.permuted(labels).tolist()) == sorted(labels.tolist())
    assert torch.equal(kinds.permuted(labels), kinds.permuted(labels))
    assert not torch.equal(kinds.permuted(labels), kinds.permuted(labels, seed=1))


def test_colour_explains_a_planted_colour_unit_whole_and_a_random_one_by_chance() -> None:
    x = images(300, 3, 4, 4) * torch.rand(300, 3, 1, 1, generator=generator(1))
    planted = x.mean(dim=(2, 3)) @ torch.tensor([2.0, -1, 0.5]) + 7
    noise = torch.randn(300, 50, generator=generator(2))
    found = kinds.colour_r2(torch.cat([planted[:, None], noise, torch.ones(300, 1)], dim=1), x)
    assert found[0].item() == pytest.approx(1, abs=1e-6)
    assert float(found[1:51].mean()) == pytest.approx(3 / 299, abs=0.006)
    assert found[-1] == 0  # constant
    grey = x[:, :1].expand(-1, 3, -1, -1)
    assert kinds.colour_r2(grey.mean(dim=(2, 3))[:, :1], grey).item() == pytest.approx(1)  # colours on a line


def test_mean_activations_of_batches_are_those_of_one() -> None:
    whole = maps()
    found = kinds.mean_activations(batches(whole, 16))
    torch.testing.assert_close(found, torch.cat([one.mean(dim=(2, 3)) for one in whole], dim=1))


TOP, CODES, LABELS = torch.tensor([[0], [1]]), torch.rand(4, 3), torch.tensor([0, 1, 0, 1])
WRONG = {
    "fewer images than k": (lambda: kinds.top_images([[torch.zeros(9, 1, 2, 2)]], 25), "9 images are fewer than the top 25 of a unit"),
    "no image": (lambda: kinds.top_images([], 25), "0 images are fewer than the top 25"),
    "k": (lambda: kinds.top_images([], 0), "k=0 is not allowed: give a whole number of at least 1"),
    "infinite": (lambda: kinds.top_images([[torch.full((2, 1, 1, 1), torch.inf)]], 1), "activations of images 0 to 1 are not all finite"),
    "another set": (lambda: kinds.diversity(CODES, TOP + 3), "top images run from 3 to 4, and there are 4 images: both must be of one set"),
    "one image": (lambda: kinds.diversity(CODES, TOP[:1]), "top images are of shape (1, 1): (k, units) with k of at least 2 are needed"),
    "zero code": (lambda: kinds.diversity(CODES * torch.tensor([[0.0], [1], [1], [1]]), TOP), "the code of 1 images is zero or no number"),
    "all alike": (lambda: kinds.diversity(torch.ones(4, 3), TOP), "all 4 images have one and the same code"),
    "one class": (lambda: kinds.best_auroc(CODES, torch.zeros(4, dtype=torch.long)), "all 4 labels are of one class"),
    "other labels": (lambda: kinds.best_auroc(CODES, LABELS[:3]), "labels are torch.int64 of shape (3,) for 4 images"),
    "not a number": (lambda: kinds.auroc(CODES * torch.nan, LABELS), "values are not all finite, so they have no order"),
    "entropy of one": (lambda: kinds.class_entropy(LABELS, TOP, 1), "n_classes=1: the entropy of one class is always 0"),
    "no such class": (lambda: kinds.class_entropy(LABELS + 1, TOP, 2), "labels run from 1 to 2: allowed are 0 to 1"),
    "one colour": (lambda: kinds.colour_r2(torch.rand(9, 2), torch.full((9, 3, 2, 2), 0.3)), "all 9 images have one mean colour"),
    "few": (lambda: kinds.colour_r2(CODES, torch.rand(4, 3)), "4 images are too few: 3 channels and an intercept explain any unit on 4"),
    "counts": (lambda: kinds.colour_r2(CODES, torch.rand(5, 3, 2, 2)), "images are of shape (5, 3, 2, 2) for values of 4 images"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_ends_in_one_clear_sentence(name: str) -> None:
    call, sentence = WRONG[name]
    with pytest.raises(BadInput, match=re.escape(sentence)):
        call()
