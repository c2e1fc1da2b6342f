"""Grams: centred, in full precision, without a trace of offset and scale; U-centring against its definition."""

import itertools

import pytest
import torch

from reprolib.errors import BadInput
from reprolib.measures.gram import LEAST_SAMPLES, centred, full_precision, gram, u_centred

BACKENDS = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def reduced_precision():
    """What a notebook may have set for speed: bf16 and TF32 in fp32 products, and autocast."""
    before = [kind.fp32_precision for kind in BACKENDS]
    torch.set_float32_matmul_precision("medium")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield
    torch.set_float32_matmul_precision("highest")
    for kind, value in zip(BACKENDS, before, strict=True):
        kind.fp32_precision = value


def test_the_gram_is_the_product_of_centred_features():
    x = normal(8, 5)
    z = x - x.mean(dim=0)
    torch.testing.assert_close(gram(x), z @ z.T)
    assert gram(x.half()).dtype == torch.float64


def test_maps_are_flattened_the_same_way_whatever_their_memory_format():
    maps = normal(8, 3, 4, 4, dtype=torch.float32)
    torch.testing.assert_close(gram(maps), gram(maps.flatten(1)), rtol=0, atol=0)
    torch.testing.assert_close(gram(maps.to(memory_format=torch.channels_last)), gram(maps), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("n", [4, 5, 7, 64])
def test_a_product_in_parts_is_the_product(n, monkeypatch):
    x = normal(n, 1_000)
    x[:, 333] = 0.1
    z = x - x.mean(dim=0)
    monkeypatch.setattr("reprolib.measures.gram.WORKING_SET", 1)  # parts of the least width: 256, and the 232 that remain
    torch.testing.assert_close(gram(x), z @ z.T)
    torch.testing.assert_close(gram(x.float()), z @ z.T, rtol=1e-5, atol=1e-2)


def test_features_are_not_changed():
    x = normal(6, 3, dtype=torch.float32) + 5
    before = x.clone()
    gram(x)
    gram(1e-30 * x)
    assert torch.equal(x, before)


def test_an_offset_costs_no_digits():
    x = normal(32, 500, dtype=torch.float32) + 1000
    z = x.double() - x.double().mean(dim=0)
    exact = u_centred(z @ z.T)
    assert (u_centred(gram(x)) - exact).abs().max() < 1e-6 * exact.abs().max()
    uncentred = u_centred((x @ x.T).double())
    assert (uncentred - exact).abs().max() > 1e-3 * exact.abs().max()  # what centring after the product would give


@pytest.mark.parametrize("scale", [2.0**-110, 2.0**-40, 2.0**20, 2.0**100])
def test_no_scale_of_the_features_leaves_the_range(scale):
    x = normal(8, 50, dtype=torch.float32)
    torch.testing.assert_close(gram(scale * x) / scale / scale, gram(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -777.7])
def test_what_is_constant_over_the_batch_becomes_exactly_zero(dtype, value):
    x = torch.full((37, 3), value, dtype=dtype)
    x[:, 1] = normal(37).to(dtype)
    found = centred(x)
    assert not found[:, [0, 2]].any()
    assert found[:, 1].all()
    assert not gram(x[:, [0, 2]]).any()


def test_a_column_that_varies_only_late_is_not_taken_for_constant():
    x = torch.full((64, 2), 0.1)
    x[-1, 1] = 0.2
    assert not centred(x)[:, 0].any()
    assert centred(x)[-1, 1] == pytest.approx(0.1 * 63 / 64, rel=1e-5)


def test_u_centring_gives_zero_row_sums_and_diagonal_and_is_blind_to_a_shift():
    x = normal(9, 4)
    found = u_centred(x @ x.T)
    assert found.diagonal().abs().max() == 0
    torch.testing.assert_close(found.sum(dim=0), torch.zeros(9, dtype=torch.float64), atol=1e-12, rtol=0)
    shifted = x + normal(4, seed=1)
    torch.testing.assert_close(u_centred(shifted @ shifted.T), found)
    torch.testing.assert_close(u_centred(torch.stack([x @ x.T, 2 * x @ x.T])), torch.stack([found, 2 * found]))


def test_the_product_of_u_centred_grams_is_the_mean_over_quadruples():
    """The unbiased HSIC is the mean of K_ij (L_ij + L_qr - 2 L_iq) over all distinct i, j, q, r: no estimator, the definition."""
    x, y = normal(6, 3, seed=1), normal(6, 2, seed=2)
    k, m = x @ x.T, y @ y.T
    quadruples = torch.tensor([*itertools.permutations(range(6), 4)])
    i, j, q, r = quadruples.T
    definition = (k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q])).mean()
    assert (u_centred(k) * u_centred(m)).sum() / (6 * 3) == pytest.approx(float(definition), abs=1e-12)


def test_a_single_outlier_leaves_exactly_nothing():
    x = torch.full((20, 3), 0.3)
    x[7] = torch.tensor([0.7, 0.1, 0.9])
    assert gram(x).any()
    assert not u_centred(gram(x)).any()


def test_autocast_and_reduced_precision_are_off_inside_and_handed_back(reduced_precision):
    x = normal(64, 4096, dtype=torch.float32)
    outside = [kind.fp32_precision for kind in BACKENDS]
    exact = x.double() @ x.double().T
    with full_precision():
        assert {kind.fp32_precision for kind in BACKENDS} == {"ieee"}
        product = x @ x.T
    assert product.dtype == torch.float32
    assert (product - exact).abs().max() < 1e-6 * exact.abs().max()
    assert (x @ x.T).dtype == torch.bfloat16
    with pytest.raises(ZeroDivisionError), full_precision():
        raise ZeroDivisionError
    assert [kind.fp32_precision for kind in BACKENDS] == outside


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.ones(4, 3, dtype=torch.int64), "conv1 is torch.int64 of shape (4, 3): give floating point features (n, ...)"),
        (torch.ones(4), "conv1 is torch.float32 of shape (4,): give floating point features (n, ...)"),
        (torch.ones(0, 4), "conv1 is torch.float32 of shape (0, 4): give floating point features (n, ...)"),
        (
            torch.tensor([[1.0, 2], [torch.inf, 3], [0, torch.nan]]),
            "conv1 holds 2 values that are not finite, in samples [1, 2]: CKA is undefined; look at the network and its input",
        ),
    ],
)
def test_features_that_have_no_gram_are_refused_by_name(x, message):
    with pytest.raises(BadInput) as refusal:
        gram(x, "conv1")
    assert str(refusal.value) == message


def test_too_few_examples_are_refused():
    assert LEAST_SAMPLES == 4
    with pytest.raises(BadInput, match=r"^n=3 examples: the unbiased HSIC needs at least 4; give larger batches$"):
        u_centred(torch.eye(3))
