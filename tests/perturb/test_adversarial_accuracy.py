"""Accuracies under attack: known on linear models, worse with every strength of the attack, and judged in fp32."""

import inspect
import math

import problems
import pytest
import torch
from torch import nn

from reprolib.models.layers import fold_batch_norm
from reprolib.perturb.attacks import CrossEntropy, adversarial_accuracy, noise_accuracy, pgd, predictions
from reprolib.perturb.engine import LinfBall, Stepper, minimise

# --- how strong the attack is


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_adversarial_accuracy_of_a_linear_model_is_the_share_of_margins_above_eps(norm):
    model = problems.linear()
    x = problems.images(200, 3, 8, 8, low=0.3, high=0.7)
    y = model.labels(x)
    margins = model.margin(x, norm)
    for quantile in (0.2, 0.5, 0.8):
        eps = margins.quantile(quantile).item()
        found = adversarial_accuracy(model, x, y, norm, eps, steps=40, restarts=1)
        assert (found.correct == (margins > eps))[(margins - eps).abs() > 0.01 * eps].all()
        assert found.value == found.correct.float().mean().item()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_adversarial_accuracy_falls_to_nothing_as_eps_grows(norm):
    network = problems.network()
    x = problems.images(60, 3, 8, 8)
    y = predictions(network, x)
    largest = 1.0 if norm == "linf" else math.sqrt(3 * 8 * 8)
    values = [adversarial_accuracy(network, x, y, norm, share * largest).value for share in (0, 0.01, 0.05, 0.2, 0.5)]
    assert values[0] == 1
    assert values == sorted(values, reverse=True)
    assert values[-1] == 0


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.02), ("l2", 0.2)])
def test_more_steps_never_raise_the_accuracy_by_more_than_half_a_point(norm, eps):
    network = problems.network()
    x = problems.images(200, 3, 8, 8)
    y = predictions(network, x)
    values = [adversarial_accuracy(network, x, y, norm, eps, steps=steps).value for steps in (1, 3, 10, 20, 40)]
    assert 0 < values[-1] < 1
    assert all(more <= fewer + 0.005 for fewer, more in zip(values[:-1], values[1:], strict=True))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_noise_of_norm_eps_hurts_less_than_pgd_of_the_same_eps(norm):
    model = problems.linear()
    x = problems.images(200, 3, 8, 8, low=0.3, high=0.7)
    y = model.labels(x)
    eps = model.margin(x, norm).quantile(0.8).item()
    attacked, noisy = adversarial_accuracy(model, x, y, norm, eps, steps=10, restarts=1).value, noise_accuracy(model, x, y, norm, eps)
    assert attacked < 0.3
    assert 0.7 < noisy <= 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_noise_has_norm_eps_exactly(norm, monkeypatch):
    seen = []
    monkeypatch.setattr("reprolib.perturb.attacks.predictions", lambda network, x: seen.append(x) or torch.zeros(len(x)))
    x = torch.full((10, 3, 8, 8), 0.5)
    noise_accuracy(problems.linear(), x, torch.zeros(10, dtype=torch.int64), norm, 0.3)
    noise = (seen[0] - x).flatten(1)
    torch.testing.assert_close(noise.norm(dim=1) if norm == "l2" else noise.abs().amin(dim=1), torch.full((10,), 0.3))
    torch.testing.assert_close(noise.abs().amax(dim=1) <= 0.3 + 1e-6, torch.ones(10, dtype=torch.bool))


def test_a_white_box_attack_is_at_least_as_strong_as_a_transferred_one():
    network, other = problems.network(seed=0), problems.network(seed=1)
    x = problems.images(100, 3, 8, 8)
    y = predictions(network, x)
    white = adversarial_accuracy(network, x, y, "linf", 0.03).value
    moved = pgd(other, x, y, "linf", 0.03, 0.00375, 20, restarts=3, generator=problems.generator())
    assert white <= (predictions(network, moved) == y).float().mean().item()


def test_more_restarts_never_help_the_network():
    network = problems.network()
    x = problems.images(100, 3, 8, 8)
    y = predictions(network, x)
    correct = [adversarial_accuracy(network, x, y, "linf", 0.1, steps=1, step=0.01, restarts=n).correct for n in (1, 2, 4)]
    assert (correct[1] <= correct[0]).all()
    assert (correct[2] <= correct[1]).all()
    assert correct[2].sum() < correct[0].sum()


# --- what it does not depend on


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.02), ("l2", 0.2)])
def test_adversarial_accuracy_does_not_depend_on_the_batch_size(norm, eps):
    network = problems.network(dtype=torch.float64)
    x = problems.images(50, 3, 8, 8, dtype=torch.float64)
    y = predictions(network, x)
    found = [adversarial_accuracy(network, x, y, norm, eps, steps=5, batch_size=size).correct for size in (1, 7, 50, 250)]
    assert 0 < found[0].sum() < 50
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_leaving_the_batch_once_fooled_changes_no_verdict():
    """Without early exit: a sample is fooled if any iterate of the full-length path is misclassified."""
    network = fold_batch_norm(problems.network(dtype=torch.float64))
    x = problems.images(60, 3, 8, 8, dtype=torch.float64)
    y = predictions(network, x)
    starts, fooled = LinfBall(0.03).random_start(x, problems.generator(4)), torch.zeros(60, dtype=torch.bool)

    def observe(k, moved, loss):
        fooled.logical_or_(network(moved).argmax(dim=1) != y)

    minimise(CrossEntropy(network, y), x, starts, LinfBall(0.03), Stepper(2.5 * 0.03 / 8, "sign"), 8, observe=observe)
    found = adversarial_accuracy(network, x, y, "linf", 0.03, steps=8, restarts=1, seed=4)
    assert 0 < fooled.sum() < 60
    assert torch.equal(found.correct, ~fooled)


def test_samples_leave_the_batch_once_fooled(monkeypatch):
    sizes, forward = [], problems.Linear.forward
    monkeypatch.setattr(problems.Linear, "forward", lambda self, x: sizes.append((len(x), x.requires_grad)) or forward(self, x))
    model = problems.linear()
    x = problems.images(50, 3, 8, 8, low=0.3, high=0.7)
    eps = model.margin(x, "linf").quantile(0.9).item()
    adversarial_accuracy(model, x, model.labels(x), "linf", eps, steps=10, restarts=1)
    attacked = [n for n, gradient in sizes if gradient]
    attacked = attacked[attacked.index(50) :]  # before, a few are given to the network and to its copy
    assert attacked.pop(0) == 50  # for the share of zero gradients
    assert len(attacked) == 10
    assert attacked == sorted(attacked, reverse=True)
    assert attacked[-1] <= 10
    assert attacked[0] == 50


def test_the_verdict_is_the_networks_own_whatever_the_fast_copy_says(monkeypatch):
    model, x = problems.linear(), problems.images(20, 3, 8, 8)
    monkeypatch.setattr("reprolib.perturb.attacks.movable_if_same", lambda network, *_: problems.Linear(-network.w.detach()))
    assert adversarial_accuracy(model, x, model.labels(x), "linf", 1e-6, steps=2).value == 1


def test_measuring_works_where_gradients_are_switched_off_outside():
    network = problems.network()
    x = problems.images(20, 3, 8, 8)
    y = predictions(network, x)
    with torch.no_grad():
        inside = adversarial_accuracy(network, x, y, "linf", 0.02, steps=3, restarts=1)
    assert torch.equal(inside.correct, adversarial_accuracy(network, x, y, "linf", 0.02, steps=3, restarts=1).correct)


# --- the fast path


class Close(nn.Module):
    """Class 1 wins by .1 + (v - .9), v the pixel. In bf16 the .1 is lost: 100 and 100.1 are both read as 100."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 2, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[100.0], [100.1]]))

    def forward(self, x):
        v = x.flatten(1)
        return self.linear(torch.ones_like(v)) + torch.cat([torch.zeros_like(v), v - 0.9], dim=1)


CLOSE, ONES = torch.full((8, 1, 1, 1), 0.9), torch.ones(8, dtype=torch.long)


def test_an_image_fooled_in_bf16_that_flips_back_in_fp32_counts_as_withstood():
    model = Close()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert (model(CLOSE - 0.01).argmax(dim=1) == 0).all()
    assert (predictions(model, CLOSE - 0.05) == 1).all()
    for restarts in (1, 3):
        found = adversarial_accuracy(model, CLOSE, ONES, "linf", 0.05, steps=10, restarts=restarts, precision="bf16")
        assert found.correct.all()
        assert found.value == 1


def test_an_image_that_flips_back_is_attacked_once_more_in_fp32():
    """The fast attack stops where bf16 sees success, short of the real one, which an honest attack of that size reaches."""
    fast, slow = (adversarial_accuracy(Close(), CLOSE, ONES, "linf", 0.2, steps=10, restarts=1, precision=p) for p in ("bf16", "fp32"))
    assert not slow.correct.any()
    assert not fast.correct.any()


def test_the_loss_is_fp32_also_where_the_network_runs_in_bf16():
    network = problems.network()
    dtypes = []
    network.linear.register_forward_hook(lambda module, given, out: dtypes.append(out.dtype))
    x = problems.images(3, 3, 8, 8)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with torch.autocast("cpu", dtype=torch.bfloat16):  # whatever the caller's state
            loss = CrossEntropy(network, torch.arange(3), precision)(x, torch.arange(3))
        assert (loss.dtype, dtypes.pop()) == (torch.float32, dtype)


def test_predictions_are_fp32_and_in_eval_mode_whatever_the_caller_does():
    network = problems.network().train()
    x = problems.images(50, 3, 8, 8)
    dtypes = []
    network.linear.register_forward_hook(lambda module, given, out: dtypes.append((out.dtype, module.training, out.requires_grad)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = predictions(network, x, batch_size=20)
    assert dtypes == [(torch.float32, False, False)] * 3
    assert torch.equal(found, network.eval()(x).argmax(dim=1))


# --- what is told


def test_the_share_of_zero_gradients_is_told():
    x = problems.images(8, 3, 8, 8)
    y = torch.zeros(8, dtype=torch.long)
    assert adversarial_accuracy(problems.Linear(torch.zeros(3, 8, 8)), x, y, "linf", 0.1, steps=1).gradient_zero_share == 1
    assert adversarial_accuracy(problems.linear(), x, y, "linf", 0.1, steps=1).gradient_zero_share == 0
    dead = problems.dead_until_bright()
    half = torch.cat([torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)])
    assert adversarial_accuracy(dead, half, y[:4], "linf", 0.1, steps=1).gradient_zero_share == 0.5


def test_an_accuracy_tells_everything_it_depends_on():
    x, model = problems.images(8, 3, 8, 8), problems.linear()
    assert adversarial_accuracy(model, x, model.labels(x), "l2", 1e-6, steps=4, restarts=2).describe() == {
        "value": 1.0, "gradient_zero_share": 0.0, "norm": "l2", "eps": 1e-6, "step": pytest.approx(2.5e-6 / 4), "steps": 4,
        "restarts": 2, "n": 8, "start": "random", "loss": "cross-entropy",
    }  # fmt: skip


def test_evaluation_is_pgd_20_with_3_restarts_by_default():
    defaults = {name: p.default for name, p in inspect.signature(adversarial_accuracy).parameters.items()}
    assert (defaults["steps"], defaults["restarts"], defaults["precision"]) == (20, 3, "fp32")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_radius_of_zero_gives_the_clean_accuracy(precision):
    model = problems.linear()
    x = problems.images(20, 3, 8, 8)
    y = model.labels(x)
    y[:5] = 1 - y[:5]
    assert adversarial_accuracy(model, x, y, "linf", 0.0, precision=precision).value == 0.75


def test_a_network_that_is_always_wrong_has_no_adversarial_accuracy():
    model = problems.linear()
    x = problems.images(6, 3, 8, 8)
    assert adversarial_accuracy(model, x, 1 - model.labels(x), "l2", 0.1, steps=2).value == 0
