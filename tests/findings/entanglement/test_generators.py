"""Generators on the ring: laws of the ring, seeds that share a training, rows, and what a question is asked."""

import math
import types
from dataclasses import replace

import pytest
import torch

from reprolib.errors import BadInput
from reprolib.findings.entanglement import generators
from reprolib.findings.entanglement.generators import MODES, NEAR, SD, SETTINGS, Setting
from reprolib.judging.tidy import rounded
from reprolib.measures.soft_nearest_neighbor import entanglement


@pytest.fixture(autouse=True)
def few_batches(monkeypatch):
    monkeypatch.setattr(generators, "N_BATCHES", 4)


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def coverage(samples, real):
    is_fake = torch.arange(2).repeat_interleave(real.shape[1])
    near = torch.cdist(samples.flatten(0, 1), MODES) <= NEAR
    return {
        "real_fake": torch.tensor([entanglement(torch.cat(pair), is_fake).share for pair in zip(real, samples, strict=True)]),
        "modes_hit": (near.float().mean(dim=0) >= generators.HIT).sum(),
        "share_within": near.any(dim=1).float().mean(),
    }


def asked(steps=1, only_mine=False, can_measure=True):
    return types.SimpleNamespace(
        settings=types.SimpleNamespace(values={"gan_steps": steps}), only_mine=only_mine, can_measure=can_measure, report=lambda words: None
    )


def test_the_ring_has_eight_modes_at_radius_two_of_which_points_lie_so_near_as_a_gaussian_says():
    assert MODES.norm(dim=1).tolist() == pytest.approx([2] * 8)
    gaps = torch.cdist(MODES, MODES)[0].sort().values
    assert float(gaps[1]) == pytest.approx(4 * math.sin(math.pi / 8), rel=1e-5)
    points = generators.ring(20_000, source())
    far, mode = torch.cdist(points, MODES).min(dim=1)
    assert float(far.square().mean()) == pytest.approx(2 * SD**2, rel=0.05)
    assert float((far <= NEAR).float().mean()) == pytest.approx(1 - math.exp(-4.5), abs=0.003)  # Rayleigh, three standard deviations
    assert (mode.bincount(minlength=8) / 20_000).tolist() == pytest.approx([1 / 8] * 8, abs=0.01)


def test_real_against_real_is_at_the_bound_and_one_mode_alone_is_not():
    real = generators.ring(640, source()).view(10, 64, 2)
    alike = coverage(generators.ring(640, source(1)).view(10, 64, 2), real)
    assert float(alike["real_fake"].mean()) > 0.95
    assert int(alike["modes_hit"]) == 8
    collapsed = coverage((MODES[0] + SD * torch.randn(640, 2, generator=source(2))).view(10, 64, 2), real)
    assert float(collapsed["real_fake"].mean()) < 0.5
    assert int(collapsed["modes_hit"]) == 1
    assert float(collapsed["share_within"]) > 0.97


@pytest.mark.parametrize("setting", [Setting(), Setting(depth=4, width=16, alpha=1.0)])
def test_seeds_trained_together_end_as_each_does_alone(setting):
    together = generators.train(setting, (0, 3), 5)
    for k, seed in enumerate((0, 3)):
        alone = generators.train(setting, (seed,), 5)
        assert torch.allclose(alone.weights[0], together.weights[k], atol=1e-5)
        assert torch.allclose(alone.samples[:, 0], together.samples[:, k], atol=1e-4)
    assert not torch.allclose(together.weights[0], together.weights[1], atol=1e-2)


def test_a_training_is_the_same_bit_for_bit_and_another_rate_or_depth_is_another():
    others = [SETTINGS[arm] for arm in ("healthy", "deep", "collapsing")]
    found = [generators.train(setting, (0,), 8) for setting in (Setting(), *others)]
    assert generators.key(found[0].weights[0]) == generators.key(found[1].weights[0])
    assert torch.equal(found[0].samples, found[1].samples)
    assert len({generators.key(one.weights[0]) for one in found}) == 3


def test_the_samples_kept_are_those_of_the_weights_kept():
    found = generators.train(Setting(), (1,), 3)
    assert found.steps == (0, 3)
    weights, layers = found.weights[0], []
    for shape in ((16, 64), (1, 64), (64, 64), (1, 64), (64, 2), (1, 2)):
        layers.append(weights[: math.prod(shape)].view(shape))
        weights = weights[math.prod(shape) :]
    assert not len(weights)
    z = torch.randn(generators.N_BATCHES * generators.BATCH, 16, generator=source())
    hidden = (((z @ layers[0] + layers[1]).relu()) @ layers[2] + layers[3]).relu()
    assert torch.allclose(hidden @ layers[4] + layers[5], found.samples[-1, 0].flatten(0, 1), atol=1e-5)


def test_the_term_in_the_objective_raises_entanglement_where_nothing_else_pulls(monkeypatch):
    monkeypatch.setattr(generators, "TERM_EVERY", 1)
    real = generators.ring(256, source()).view(4, 64, 2)
    still = Setting(d_rate=0.0, rate=1e-3)
    plain, pulled = (generators.train(Setting(**{**vars(still), "alpha": alpha}), (0,), 60) for alpha in (0.0, 300.0))
    with_term, without = (float(coverage(one.samples[-1, 0], real)["real_fake"].mean()) for one in (pulled, plain))
    assert with_term > without + 0.05


def test_where_samples_are_apart_from_the_data_the_term_has_no_pull():
    """At the minimum over temperature two sets that are apart have a loss of 0, whatever lies between."""
    plain, with_term = (generators.train(Setting(alpha=alpha), (0,), 8) for alpha in (0.0, 1.0))
    assert torch.equal(plain.weights, with_term.weights)


def test_looks_are_at_the_start_every_500_steps_and_the_end():
    assert generators.looks(1500) == (0, 500, 1000, 1500)
    assert generators.looks(1200) == (0, 500, 1000, 1200)


def test_no_steps_are_refused_with_the_cure():
    with pytest.raises(BadInput, match="gan_steps=0 trains nothing: give at least 1"):
        generators.train(Setting(), (0,), 0)


def test_a_training_that_diverges_stops_with_its_step():
    with pytest.raises(BadInput, match="not finite by step 40 .*lower its learning rates"):
        generators.train(Setting(rate=1e38, d_rate=1e38), (0,), 40)


def test_rows_hold_every_arm_and_seed_once_and_rise_is_the_end_minus_the_start(monkeypatch):
    real = generators.ring(generators.N_BATCHES * generators.BATCH, source()).view(-1, generators.BATCH, 2)
    monkeypatch.setattr(generators, "SEEDS", (0, 1))
    monkeypatch.setattr(generators, "SETTINGS", {arm: SETTINGS[arm] for arm in ("healthy", "deep", "collapsing")})
    rows = generators.generators(asked(), coverage)
    assert len(rounded(rows)) == len(rows)
    assert set(rows["claim"]) == {"ENT-8"}
    assert rows.groupby("arm")["network"].nunique().to_dict() == {"healthy": 2, "deep": 2, "collapsing": 2}
    assert dict(zip(rows["arm"], rows["architecture"], strict=True)) == {
        "healthy": "mlp_2x64", "deep": "mlp_4x128", "collapsing": "mlp_2x64"
    }  # fmt: skip
    own = rows[(rows["arm"] == "deep") & (rows["seed"] == 1)].pivot_table(index="unit", columns="quantity", values="value")
    trained = generators.train(SETTINGS["deep"], (0, 1), 1)
    start, end = (coverage(samples, real)["real_fake"] for samples in trained.samples[:, 1])
    assert own["real_fake"].dropna().tolist() == pytest.approx(end.tolist(), abs=1e-3)
    assert own["rise"].dropna().tolist() == pytest.approx((end - start).tolist(), abs=1e-3)
    assert own.loc["00000", "real_fake_by_step"] == pytest.approx(float(start.mean()), abs=1e-3)
    assert set(rows.loc[rows["quantity"] == "sample_x", "seed"]) == {0}


def test_fewer_batches_of_the_same_generators_are_asked_anew(monkeypatch):
    monkeypatch.setattr(generators, "SEEDS", (0,))
    real = generators.ring(generators.N_BATCHES * generators.BATCH, source()).view(-1, generators.BATCH, 2)
    trained = generators.train(SETTINGS["healthy"], (0,), 1)
    fewer = replace(trained, samples=trained.samples[:, :, :3])
    assert generators._asked(trained, real, coverage)["real_fake"].shape == (2, 1, generators.N_BATCHES)
    assert generators._asked(fewer, real[:3], coverage)["real_fake"].shape == (2, 1, 3)
    other = generators._asked(trained, trained.samples[-1, 0], coverage)["real_fake"]
    assert not torch.equal(other, generators._asked(trained, real, coverage)["real_fake"])


def test_one_training_serves_two_questions_and_no_steps_none(monkeypatch):
    monkeypatch.setattr(generators, "SEEDS", (0,))
    first = generators.generators(asked(), coverage)
    monkeypatch.setattr(generators, "train", lambda *arguments: pytest.fail("trained again"))

    def other(samples, real):
        return {name: 0 * value for name, value in coverage(samples, real).items()}

    second = generators.generators(asked(), other)
    assert set(second["network"]) == set(first["network"])
    assert set(second.loc[second["quantity"] == "real_fake", "value"]) == {0}
    for nothing in (asked(0), asked(only_mine=True), asked(can_measure=False)):
        assert generators.generators(nothing, coverage).empty
