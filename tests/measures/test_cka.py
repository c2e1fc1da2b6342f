"""CKA against the trace form, in float64; its laws; and the traps that public implementations fell into, each by its number."""

import numpy as np
import pytest
import torch
from torch import nn

from reprolib.errors import BadInput
from reprolib.measures.cka import CONSTANT, DEGENERATE, BatchHSIC, MinibatchCKA, cka

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def hsic_by_traces(x, y):
    """The unbiased HSIC of Song et al. 2012, eq. 5, as written there, in float64: no U-centring, no centring of the features' Gram."""
    x, y = (z.double().flatten(1) for z in (x, y))
    k, m = ((z - z.mean(dim=0)) @ (z - z.mean(dim=0)).T for z in (x, y))
    k, m = k - torch.diag(k.diagonal()), m - torch.diag(m.diagonal())
    n, one = len(k), torch.ones(len(k), dtype=torch.float64)
    trace = torch.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
    return float(trace) / (n * (n - 3))


def cka_by_traces(batches_x, batches_y):
    """(Lx, Ly): mean HSIC over batches with weight n (n - 3), ratio last. batches: one list of layers a batch."""

    def mean(pick, other):
        weights = np.array([len(layers[0]) * (len(layers[0]) - 3) for layers in batches_x])
        return np.average([hsic_by_traces(pick(b), other(b)) for b in range(len(batches_x))], weights=weights)

    own_x = [mean(lambda b, i=i: batches_x[b][i], lambda b, i=i: batches_x[b][i]) for i in range(len(batches_x[0]))]
    own_y = [mean(lambda b, j=j: batches_y[b][j], lambda b, j=j: batches_y[b][j]) for j in range(len(batches_y[0]))]
    cross = [[mean(lambda b, i=i: batches_x[b][i], lambda b, j=j: batches_y[b][j]) for j in range(len(own_y))] for i in range(len(own_x))]
    return np.array(cross) / np.sqrt(np.outer(own_x, own_y))


def layers_of(n, seed=0, offset=0.0):
    """Five related layers of one batch, as a small network gives them: maps and codes, wide and narrow, sparse and dense."""
    x = normal(n, 3, 8, 8, seed=seed)
    draw = torch.Generator().manual_seed(99)
    convs = [torch.randn(shape, generator=draw) / 5 for shape in ((16, 3, 3, 3), (32, 16, 3, 3))]
    first = torch.relu(nn.functional.conv2d(x, convs[0], padding=1))
    second = torch.relu(nn.functional.conv2d(first, convs[1], stride=2))
    return [x + offset, first + offset, second + offset, second.mean(dim=(2, 3)) + offset, first[:, :2, 0, 0] + offset]


def gathered(batches, **options):
    found = MinibatchCKA(len(batches[0]), **options)
    for layers in batches:
        found.update(layers)
    return found


# --- against the trace form


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("device", DEVICES)
def test_trap_14_every_layer_pair_equals_the_trace_form_also_with_a_feature_mean_of_1000_and_a_last_batch_of_4(offset, device):
    batches = [layers_of(n, seed, offset) for seed, n in enumerate((32, 32, 4))]
    found = gathered([[x.to(device) for x in layers] for layers in batches]).matrix()
    assert np.abs(found - cka_by_traces(batches, batches)).max() < 1e-5


def test_trap_06_a_gram_with_a_diagonal_far_from_constant_equals_the_trace_form():
    x = layers_of(16)[1] * torch.logspace(-1, 1, 16)[:, None, None, None]
    y = layers_of(16, seed=1)[2] * torch.logspace(1, -1, 16)[:, None, None, None]
    expected = cka_by_traces([[x]], [[y]])[0, 0]
    assert cka(x, y) == pytest.approx(expected, abs=1e-5)
    assert abs(expected) > 0.01


def test_two_networks_with_other_numbers_of_layers_equal_the_trace_form():
    xs, ys = [layers_of(24, seed) for seed in (0, 1)], [layers_of(24, seed)[1:4] for seed in (0, 1)]
    ys = [[torch.tanh(layer) for layer in layers] for layers in ys]
    found = MinibatchCKA(5, 3)
    for x, y in zip(xs, ys, strict=True):
        found.update(x, y)
    assert found.matrix().shape == (5, 3)
    assert np.abs(found.matrix() - cka_by_traces(xs, ys)).max() < 1e-5


@pytest.mark.parametrize("unbiased", [True, False])
def test_narrow_features_take_the_feature_space_form_and_give_the_same(unbiased):
    x, y = normal(40, 6, seed=1), normal(40, 3, seed=2)
    y = y + x[:, :3]
    padded = [torch.cat([z, torch.zeros(40, 50)], dim=1) for z in (x, y)]  # wider than n: the Gram form
    assert cka(x, y, unbiased) == pytest.approx(cka(*padded, unbiased), abs=1e-6)
    if unbiased:
        assert cka(x, y) == pytest.approx(cka_by_traces([[x]], [[y]])[0, 0], abs=1e-9)


def test_biased_cka_is_the_closed_form_of_kornblith():
    x, y = normal(20, 30, seed=1, dtype=torch.float64), normal(20, 40, seed=2, dtype=torch.float64)
    a, b = x - x.mean(dim=0), y - y.mean(dim=0)
    expected = (b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())
    assert cka(x, y, unbiased=False) == pytest.approx(float(expected), abs=1e-12)


# --- laws


@pytest.mark.parametrize("p", [5, 300])
def test_trap_10_cka_of_a_representation_with_itself_is_one_and_scale_does_not_matter(p):
    x, y = normal(30, p, seed=1), normal(30, p, seed=2) + 1
    mixed = x + y
    assert cka(x, x) == pytest.approx(1, abs=1e-6)
    assert cka(x, 1e-3 * x) == pytest.approx(1, abs=1e-6)
    assert cka(7 * x, 1e20 * mixed) == pytest.approx(cka(x, mixed), abs=1e-6)
    assert cka(x, x, unbiased=False) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("p", [5, 300])
def test_cka_ignores_rotation_but_not_a_general_linear_map(p):
    x, y = normal(30, p, seed=1, dtype=torch.float64), normal(30, p, seed=2, dtype=torch.float64)
    y = y + x
    rotation = torch.linalg.qr(normal(p, p, seed=3, dtype=torch.float64))[0]
    assert cka(x @ rotation, y) == pytest.approx(cka(x, y), abs=1e-9)
    stretch = torch.diag(torch.logspace(-2, 2, p, dtype=torch.float64))
    assert abs(cka(x @ stretch, y) - cka(x, y)) > 0.05


def test_cka_ignores_the_order_of_examples_and_is_symmetric():
    x, y = normal(30, 50, seed=1), normal(30, 80, seed=2)
    y[:, :50] += x
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    assert cka(x[order], y[order]) == pytest.approx(cka(x, y), abs=1e-6)
    assert cka(y, x) == pytest.approx(cka(x, y), abs=1e-9)
    assert abs(cka(x[order], y)) < cka(x, y) / 2


def test_trap_07_unbiased_cka_of_independent_gaussians_is_zero_where_the_biased_one_is_near_one():
    draws = [(normal(64, 1000, seed=2 * k), normal(64, 1000, seed=2 * k + 1)) for k in range(20)]
    assert abs(np.mean([cka(x, y) for x, y in draws])) < 0.02
    assert np.mean([cka(x, y, unbiased=False) for x, y in draws]) > 0.9


def test_trap_15_cka_is_a_similarity():
    x = normal(64, 20)
    nearer, further = x + 0.5 * normal(64, 20, seed=1), x + 2 * normal(64, 20, seed=1)
    assert 1 > cka(x, nearer) > cka(x, further) > 0


# --- batches


def test_one_batch_is_plain_cka():
    layers = layers_of(20)
    found = gathered([layers]).matrix()
    for i, x in enumerate(layers):
        for j, y in enumerate(layers):
            assert found[i, j] == pytest.approx(cka(x, y), abs=1e-6)


def test_trap_05_every_batch_counts_and_the_ratio_is_taken_after_the_mean():
    x, y = normal(2, 16, 10, seed=1), normal(2, 16, 10, seed=2)
    y[0] += 5 * x[0]
    y[0] *= 3  # the first batch: large and similar; the second: small and unlike
    found = MinibatchCKA(1, 1)
    for a, b in zip(x, y, strict=True):
        found.update([a], [b])
    hsic = [[hsic_by_traces(*pair) for pair in ((a, b), (a, a), (b, b))] for a, b in zip(x, y, strict=True)]
    cross, own_x, own_y = np.mean(hsic, axis=0)
    assert found.matrix()[0, 0] == pytest.approx(cross / np.sqrt(own_x * own_y), abs=1e-6)
    apart = [cka(a, b) for a, b in zip(x, y, strict=True)]
    assert abs(found.matrix()[0, 0] - apart[1]) > 0.1
    assert abs(found.matrix()[0, 0] - np.mean(apart)) > 0.1


def test_the_order_of_batches_does_not_matter_and_equal_batches_change_nothing():
    batches = [layers_of(12, seed) for seed in range(3)]
    np.testing.assert_allclose(gathered(batches).matrix(), gathered(batches[::-1]).matrix(), atol=1e-12)
    np.testing.assert_allclose(gathered(batches * 2).matrix(), gathered(batches).matrix(), atol=1e-12)


def test_trap_09_a_layer_more_leaves_the_others_entries_as_they_were():
    batches = [layers_of(12, seed) for seed in range(3)]
    fewer = gathered([layers[:4] for layers in batches]).matrix()
    np.testing.assert_allclose(gathered(batches).matrix()[:4, :4], fewer, atol=1e-12)


def test_trap_08_one_rule_of_flattening_for_all_cells():
    batches = [layers_of(12, seed) for seed in range(2)]
    alone = gathered(batches).matrix()
    twice = MinibatchCKA(5, 5)
    for layers in batches:
        twice.update(layers, [layer.clone(memory_format=torch.contiguous_format).flatten(1) for layer in layers])
    np.testing.assert_allclose(twice.matrix(), alone, atol=1e-6)


def test_trap_18_the_matrix_of_a_network_is_symmetric_with_a_unit_diagonal_and_the_same_each_time():
    batches = [layers_of(12, seed) for seed in range(3)]
    found = gathered(batches).matrix()
    assert np.array_equal(found, found.T)
    assert np.abs(np.diagonal(found) - 1).max() < 1e-5
    assert np.array_equal(found, gathered(batches).matrix())


def test_a_ragged_batch_weighs_as_many_pairs_as_it_has():
    batches = [layers_of(n, seed) for seed, n in enumerate((16, 16, 6))]
    assert np.abs(gathered(batches).matrix() - cka_by_traces(batches, batches)).max() < 1e-5


def test_the_batches_give_the_matrix_of_any_draw_of_them():
    batches = [layers_of(n, seed) for seed, n in enumerate((12, 12, 8))]
    hsic = gathered(batches).batches()
    assert hsic.cross.shape == (3, 5, 5)
    assert hsic.n.tolist() == [12, 12, 8]
    assert hsic.cross[1, 0, 2] == pytest.approx(hsic_by_traces(batches[1][0], batches[1][2]), rel=1e-4)
    drawn = hsic.matrix([[1, 1, 1], [2, 0, 1], [0, 3, 0]])
    np.testing.assert_allclose(drawn[0], gathered(batches).matrix(), atol=1e-12)
    np.testing.assert_allclose(drawn[1], gathered([batches[0], batches[0], batches[2]]).matrix(), atol=1e-12)
    np.testing.assert_allclose(drawn[2], gathered([batches[1]]).matrix(), atol=1e-12)
    np.testing.assert_allclose(hsic.same_depth([[2, 0, 1]]), np.ones((1, 5)), atol=1e-12)


def test_the_same_depth_curve_is_the_diagonal():
    found = MinibatchCKA(3, 3)
    found.update(layers_of(12)[:3], [torch.tanh(layer) for layer in layers_of(12)[:3]])
    np.testing.assert_allclose(found.batches().same_depth(), np.diagonal(found.matrix()), atol=1e-12)
    other = MinibatchCKA(3, 2)
    other.update(layers_of(12)[:3], layers_of(12)[:2])
    with pytest.raises(BadInput, match="3 layers against 2 have no depths in common: compare equally many"):
        other.batches().same_depth()


# --- what is undefined


def test_trap_03_a_layer_that_never_fired_is_nan_by_name_and_reason():
    batches = [[x, torch.zeros(12, 4, 2, 2), torch.full((12, 3), 0.1)] for x in (normal(12, 5), normal(12, 5, seed=1))]
    found = gathered(batches, names_x=["stem", "dead", "stuck"])
    expected = np.full((3, 3), np.nan)
    expected[0, 0] = 1
    np.testing.assert_allclose(found.matrix(), expected, atol=1e-6)
    assert found.undefined() == {"dead": CONSTANT, "stuck": CONSTANT}


def test_a_layer_that_fires_in_one_batch_only_is_defined():
    found = gathered([[normal(12, 5), torch.zeros(12, 4)], [normal(12, 5, seed=1), normal(12, 5, seed=1)[:, :4]]])
    assert found.undefined() == {}
    assert 0 < found.matrix()[0, 1] < 1


def test_trap_04_a_layer_without_hsic_is_nan_with_the_advice_of_a_larger_batch():
    flash = torch.zeros(12, 2)
    flash[3] = torch.tensor([0.3, 0.7])
    found = MinibatchCKA(1, 1, names_x=["stem"], names_y=["flash"])
    found.update([normal(12, 5)], [flash])
    assert np.isnan(found.matrix()).all()
    assert found.undefined() == {"flash": DEGENERATE}
    assert "larger batches" in DEGENERATE
    for x, y in ((normal(12, 5), flash), (normal(12, 50), flash.repeat(1, 20))):
        with pytest.raises(BadInput, match="^y at n=12: no two examples of a batch differ in it beyond one outlier"):
            cka(x, y)


def test_trap_04_the_smallest_batch_gives_a_number_and_smaller_ones_are_refused():
    for seed in range(20):
        x, y = normal(4, 6, seed=seed), normal(4, 6, seed=seed + 50)
        assert abs(cka(x, y)) <= 1 + 1e-9
    with pytest.raises(BadInput, match="^n=3 examples: the unbiased HSIC needs at least 4; give larger batches$"):
        cka(x[:3], y[:3])
    found = MinibatchCKA(1)
    with pytest.raises(BadInput, match="^n=3 examples: the unbiased HSIC needs at least 4; give larger batches$"):
        found.update([x[:3]])


@pytest.mark.parametrize("p", [3, 100])
@pytest.mark.parametrize("unbiased", [True, False])
def test_cka_with_a_constant_side_is_refused(p, unbiased):
    message = "y is constant over its 20 rows, so CKA is undefined: give features that vary, or other examples"
    with pytest.raises(BadInput, match=f"^{message}$"):
        cka(normal(20, 4), torch.full((20, p), 0.1), unbiased)


# --- what is refused


def test_trap_02_different_images_on_the_two_sides_are_refused():
    x, y = normal(5, 3), normal(5, 4, seed=1)
    found = MinibatchCKA(1, 1)
    with pytest.raises(BadInput, match="row 3 is 7 for x and 3 for y: CKA compares the same examples in the same order"):
        found.update([x], [y], ids=[0, 1, 2, 7, 4], ids_y=range(5))
    with pytest.raises(BadInput, match="4 ids for 5 examples: give one each"):
        found.update([x], [y], ids=range(4))
    with pytest.raises(BadInput, match="ids_y is given without ids: give both, they are compared"):
        found.update([x], [y], ids_y=range(5))
    found.update([x], [y], ids=range(5), ids_y=range(5))
    found.update([x], [y], ids=range(5, 10))
    found.update([x], [y])
    first, second, third = found.batches().ids
    assert len({first, second}) == 2
    assert third == ""
    again = MinibatchCKA(1)
    again.update([x], ids=[0, 1, 2, 3, 4])
    assert again.batches().ids == (first,)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: cka(normal(5, 3), normal(6, 3)), "x has 5 rows, y has 6: give features of the same examples in the same order"),
        (lambda: MinibatchCKA(0), "0 layers and 0 names for x: give at least one layer, and a name each"),
        (lambda: MinibatchCKA(2, names_x=["stem"]), "2 layers and 1 names for x: give at least one layer, and a name each"),
        (lambda: MinibatchCKA(2).matrix(), "no batch was added yet: call update() first"),
        (
            lambda: MinibatchCKA(2).update([normal(5, 3)]),
            "an update with (x, y) = (1, None) layers, made for (2, None): give every layer in every batch",
        ),
        (
            lambda: MinibatchCKA(1).update([normal(5, 3)], [normal(5, 3)]),
            "an update with (x, y) = (1, 1) layers, made for (1, None): give every layer in every batch",
        ),
        (
            lambda: MinibatchCKA(1, 1).update([normal(5, 3)], [normal(6, 3)]),
            "x has 5 rows, y has 6: give features of the same examples in the same order",
        ),
        (
            lambda: MinibatchCKA(2, names_x=["stem", "head"]).update([normal(5, 3), normal(6, 3)]),
            "head has a Gram of shape (6, 6), stem of (5, 5): both need n x n",
        ),
        (
            lambda: MinibatchCKA(1, names_x=["stem"]).update([torch.full((5, 3), torch.nan)]),
            "stem holds 15 values that are not finite, in samples [0, 1, 2, 3, 4]: CKA is undefined; look at the network and its input",
        ),
    ],
)
def test_refusals_name_the_value_what_is_allowed_and_the_cure(wrong, message):
    with pytest.raises(BadInput) as refusal:
        wrong()
    assert str(refusal.value) == message


def test_pooled_batches_have_the_same_matrix() -> None:
    rng = np.random.default_rng(0)
    whole = BatchHSIC(np.array([8, 12, 20]), rng.random((3, 2, 2)), rng.random((3, 2)), rng.random((3, 2)), ("", "", ""))
    assert np.allclose(whole.pooled().matrix(), whole.matrix(), rtol=1e-12)
    assert len(whole.pooled().n) == 1
