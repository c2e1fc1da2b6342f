"""Dominance: Grams with a planted first component and planted outliers, and what is left without them."""

import math

import pytest
import torch

from reprolib.errors import BadInput
from reprolib.measures.dominance import top_points, top_points_share, without_pc1, without_points
from reprolib.measures.gram import gram, u_centred


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(n=50, p=20, strength=0.0, seed=0):
    """Noise plus one direction: (features, scores)."""
    scores = normal(n, seed=77)
    return normal(n, p, seed=seed) + strength * torch.outer(scores, torch.ones(p, dtype=torch.float64)), scores


def test_the_gram_without_the_first_component_is_that_of_the_features_without_it():
    x, _ = planted(strength=2)
    z = x - x.mean(dim=0)
    direction = torch.linalg.svd(z)[2][0]
    torch.testing.assert_close(without_pc1(gram(x)), gram(z - torch.outer(z @ direction, direction)), atol=1e-9, rtol=0)
    line = gram(torch.outer(normal(20), normal(5)))
    assert without_pc1(line).norm() < 1e-9 * line.norm()


def test_the_top_points_are_the_planted_ones_and_hold_their_share():
    x = normal(200, 10)
    x[[17, 3]] *= 30
    norms = (x - x.mean(dim=0)).square().sum(dim=1)
    assert top_points([gram(x)]).tolist() == [3, 17]
    assert top_points_share(gram(x)) == pytest.approx(float(norms[[3, 17]].sum() / norms.sum()))
    assert top_points_share(gram(x)) > 0.8
    assert 0.01 < top_points_share(gram(normal(200, 10))) < 0.05
    assert math.isnan(top_points_share(gram(torch.zeros(5, 3))))


def test_at_least_one_point_counts_and_one_percent_of_a_hundred_is_one():
    assert len(top_points([gram(normal(20, 3))])) == 1
    assert len(top_points([gram(normal(100, 3))])) == 1
    assert len(top_points([gram(normal(101, 3))])) == 2
    assert len(top_points([gram(normal(100, 3))], share=0.07)) == 7


def test_points_are_ranked_by_their_share_in_all_layers_whatever_the_layers_scale():
    small, large = normal(100, 10), 1000 * normal(100, 10, seed=1)
    small[5] *= 20
    assert top_points([gram(small), gram(large)]).tolist() == [5]
    assert top_points([gram(small), torch.zeros(100, 100, dtype=torch.float64)]).tolist() == [5]


def test_the_gram_without_points_is_that_of_the_others():
    x = normal(30, 8) + 5
    kept = [i for i in range(30) if i not in (4, 20)]
    found = without_points(gram(x), torch.tensor([4, 20]))
    torch.testing.assert_close(found, gram(x[kept]))
    torch.testing.assert_close(u_centred(found), u_centred(gram(x)[kept][:, kept]))


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1])
def test_a_share_outside_the_unit_interval_is_refused(share):
    with pytest.raises(BadInput, match=r"is outside \(0, 1\): give .01 for the top 1 % of the examples"):
        top_points_share(gram(normal(20, 3)), share)


def test_grams_that_do_not_match_are_refused():
    with pytest.raises(BadInput, match=r"a Gram has shape \(6, 6\): give square Grams of the same n >= 2 examples"):
        top_points([gram(normal(5, 3)), gram(normal(6, 3))])
    with pytest.raises(BadInput, match=r"a Gram has shape \(5, 3\)"):
        without_pc1(normal(5, 3))
