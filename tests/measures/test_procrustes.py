"""Procrustes: closed forms, invariances, and the bias that asks for many rows and for shuffles."""

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes

from reprolib.errors import BadInput
from reprolib.measures.procrustes import procrustes_similarity


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def procrustes_distance(x, y):
    return 2 - 2 * procrustes_similarity([x], [y], shuffles=0)[0, 0]


def test_trap_15_the_distance_is_zero_at_identity_and_the_similarity_largest():
    x, y = normal(200, 5), normal(200, 5, seed=1)
    assert procrustes_distance(x, x) == pytest.approx(0, abs=1e-12)
    assert 0 < procrustes_distance(x, x + y) < procrustes_distance(x, x + 3 * y) < 2
    plain = procrustes_similarity([x, x + y, x + 3 * y], shuffles=0)
    np.testing.assert_allclose(np.diagonal(plain), 1, atol=1e-12)
    assert 1 > plain[0, 1] > plain[0, 2] > 0


def test_the_distance_is_what_the_best_rotation_leaves():
    x, y = normal(100, 4), normal(100, 4, seed=1)
    a, b = (z - z.mean(dim=0) for z in (x, y))
    a, b = a / a.norm(), b / b.norm()
    rotation, _ = orthogonal_procrustes(a.numpy(), b.numpy())
    assert procrustes_distance(x, y) == pytest.approx(((a.numpy() @ rotation - b.numpy()) ** 2).sum(), abs=1e-9)


def test_it_ignores_rotation_scale_and_offset_but_not_a_general_linear_map():
    x, y = normal(100, 4), normal(100, 4, seed=1)
    rotation = torch.linalg.qr(normal(4, 4, seed=2))[0]
    assert procrustes_distance(3 * x @ rotation + 1000, y) == pytest.approx(procrustes_distance(x, y), abs=1e-9)
    assert procrustes_distance(x @ torch.diag(torch.tensor([1.0, 5, 25, 125], dtype=torch.float64)), y) != pytest.approx(
        procrustes_distance(x, y), abs=0.01
    )


def test_layers_of_other_widths_are_compared_in_both_directions():
    x, y = normal(300, 4), normal(300, 12, seed=1)
    y[:, :4] += 2 * x
    plain = procrustes_similarity([x, y], shuffles=0)
    assert plain[0, 1] == pytest.approx(plain[1, 0])
    np.testing.assert_allclose(procrustes_similarity([x], [y], shuffles=0), plain[:1, 1:])


def test_independent_features_look_alike_until_the_shuffles_are_subtracted():
    x, y = normal(1000, 100), normal(1000, 100, seed=1)
    assert procrustes_similarity([x], [y], shuffles=0)[0, 0] > 0.25
    assert abs(procrustes_similarity([x], [y])[0, 0]) < 0.01
    assert 0.6 < procrustes_similarity([x])[0, 0] < 0.75


def test_shuffles_are_fixed_unless_a_generator_is_given():
    x, y = normal(60, 4), normal(60, 4, seed=1)
    first, again = (procrustes_similarity([x], [y]) for _ in range(2))
    other = procrustes_similarity([x], [y], generator=torch.Generator().manual_seed(1))
    assert first == again
    assert first != other


def test_too_few_rows_unequal_rows_and_constant_layers_are_refused():
    with pytest.raises(BadInput) as refusal:
        procrustes_similarity([normal(100, 4), normal(100, 11)])
    assert str(refusal.value) == (
        "n=100 examples of 11 dimensions: Procrustes needs n >= 110 (10 a dimension), or any two representations look alike; "
        "give a larger batch, or features averaged over positions"
    )
    procrustes_similarity([normal(100, 10)])
    with pytest.raises(BadInput, match="layers have 100 and 90 rows: give features of the same examples in the same order"):
        procrustes_similarity([normal(100, 4)], [normal(90, 4)])
    with pytest.raises(BadInput, match="layer 1 of x is constant over its 50 rows, so Procrustes is undefined: leave it out"):
        procrustes_similarity([normal(50, 2), torch.full((50, 2), 0.1)])
