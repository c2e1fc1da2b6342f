"""PGD against a closed form and a second implementation, and the traps in which other attack libraries have been caught."""

import math
import warnings

import problems
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reprolib.errors import BadInput
from reprolib.models.networks import Normaliser
from reprolib.perturb.attacks import CrossEntropy, adversarial_accuracy, ball, noise_accuracy, pgd, predictions, training_examples
from reprolib.perturb.engine import L2Ball, LinfBall, Stepper, minimise


class OnePixel(nn.Module):
    """Label 0 is missed from pixel value .5 on, at LOWER loss (.71) than that with which it is recognised below (1.08)."""

    def forward(self, x):
        value = x.flatten(1)[:, :1]
        recognised, missed = torch.tensor([[0.34, 0.33, 0.33]]).log(), torch.tensor([[0.49, 0.5099, 0.0001]]).log()
        return torch.where(value < 0.5, recognised, missed) + 0 * value


def plain_pgd(model, x, y, eps, step, steps):
    """PGD in Linf from x itself, as written in Madry et al. 2018: the last iterate."""
    moved = x.clone()
    for _ in range(steps):
        moved.requires_grad_()
        gradient = torch.autograd.grad(F.cross_entropy(model(moved), y, reduction="sum"), moved)[0]
        moved = (x + (moved.detach() + step * gradient.sign() - x).clamp(-eps, eps)).clamp(0, 1)
    return moved


# --- a closed form


@pytest.mark.parametrize("random_start", [True, False])
@pytest.mark.parametrize(("norm", "eps", "low"), [("linf", 8 / 255, 0), ("linf", 0.3, 0), ("l2", 0.2, 0.3), ("l2", 1.0, 0.3)])
def test_pgd_on_a_linear_model_reaches_the_known_optimum(norm, eps, low, random_start):
    """In Linf also where the pixel range comes in between; in L2 the images keep away from it."""
    model = problems.linear(dtype=torch.float64)
    model.w.data *= 0.2  # so that no cross-entropy, which is fp32, vanishes: there the best iterate would be ambiguous
    x = problems.images(16, 3, 8, 8, low=low, high=1 - low, dtype=torch.float64)
    y = model.labels(x)
    moved = pgd(model, x, y, norm, eps, eps / 4, 60, generator=problems.generator(), random_start=random_start)
    wanted = model.worst(x, y, norm, eps)
    assert ((wanted <= 0) | (wanted >= 1)).any() == (norm == "linf")
    torch.testing.assert_close(moved, wanted, rtol=0, atol=1e-6 if norm == "linf" else 1e-3)


# --- a second implementation as oracle


def test_linf_pgd_without_random_start_equals_foolbox_step_by_step():
    with warnings.catch_warnings():  # foolbox imports a name from where scipy will no longer have it
        warnings.filterwarnings("ignore", "Please import `gaussian_filter`", DeprecationWarning)
        import foolbox
    network = problems.network(dtype=torch.float64)  # in double, because sign() turns a rounding error into a step
    x = problems.images(12, 3, 8, 8, dtype=torch.float64)
    y = torch.arange(12) % 4
    eps, step, steps = 8 / 255, 2 / 255, 10
    attack = foolbox.attacks.LinfProjectedGradientDescentAttack(abs_stepsize=step, steps=steps, random_start=False)
    _, theirs, _ = attack(foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu"), x, y, epsilons=eps)
    ours = minimise(CrossEntropy(network, y), x, x, LinfBall(eps), Stepper(step, "sign"), steps).x
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours, plain_pgd(network, x, y, eps, step, steps), rtol=0, atol=1e-12)
    # pgd keeps the iterate of highest loss: the same one or a better one, never another attack
    loss = F.cross_entropy(network(pgd(network, x, y, "linf", eps, step, steps, random_start=False)), y, reduction="none")
    assert (loss >= F.cross_entropy(network(theirs), y, reduction="none") - 1e-6).all()


# --- restarts


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_each_sample_keeps_its_worst_restart_whichever_of_the_three_it_is(norm):
    model = problems.linear((3, 2, 2))
    x = torch.full((60, 3, 2, 2), 0.5)
    y = torch.zeros(60, dtype=torch.long)
    draw = problems.generator(5)
    starts = torch.stack([ball(norm, 0.3, 12).random_start(x, draw) for _ in range(3)])
    losses = torch.stack([F.cross_entropy(model(start), y, reduction="none") for start in starts]).detach()
    fooled = torch.stack([model(start).argmax(dim=1) != y for start in starts])
    worst = (losses + 1000 * fooled).argmax(dim=0)
    assert worst.unique().tolist() == [0, 1, 2]  # also the second of three is the worst of some
    # steps too short to move a pixel: each restart ends where it began
    moved = pgd(model, x, y, norm, 0.3, 1e-30, 1, restarts=3, generator=problems.generator(5))
    assert torch.equal(moved, starts[worst, torch.arange(60)])


def test_a_misclassified_restart_beats_one_of_higher_loss():
    x, y = torch.full((40, 1, 1, 1), 0.5), torch.zeros(40, dtype=torch.long)
    draw = problems.generator(3)
    starts = torch.stack([LinfBall(0.5).random_start(x, draw) for _ in range(3)]).flatten(1)
    moved = pgd(OnePixel(), x, y, "linf", 0.5, 1e-30, 1, restarts=3, generator=problems.generator(3)).flatten()
    can_be_fooled = (starts >= 0.5).any(dim=0)
    assert 0 < can_be_fooled.sum() < 40
    assert torch.equal(moved >= 0.5, can_be_fooled)
    assert ((starts[0] >= 0.5) & (starts[2] < 0.5)).any()  # keeping the last or the highest loss would fail
    assert ((starts[0] < 0.5) & (starts[1] >= 0.5) & (starts[2] < 0.5)).any()


# --- what an attack costs and leaves alone


@pytest.mark.parametrize("keep_mode", ["train", "eval", "mixed"])
@pytest.mark.parametrize("attack", ["pgd", "adversarial_accuracy", "predictions", "training_examples"])
def test_modes_buffers_and_gradients_are_as_they_were(attack, keep_mode):
    network = problems.network()
    network = problems.mixed(network) if keep_mode == "mixed" else network.train(keep_mode == "train")
    modes, buffers = problems.modes(network), problems.buffers(network)
    _attack(attack, network)
    assert problems.modes(network) == modes
    for name, buffer in network.named_buffers():
        assert torch.equal(buffer, buffers[name]), name
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("attack", ["pgd", "adversarial_accuracy", "predictions"])
def test_modes_are_restored_after_an_error_too(attack):
    network = problems.mixed(problems.network())
    modes = problems.modes(network)
    network.linear = nn.Linear(3, 4)  # of another width than the code
    modes = problems.modes(network)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        _attack(attack, network)
    assert problems.modes(network) == modes


def test_gradients_of_a_training_step_in_progress_survive_an_attack():
    network = problems.network()
    x, y = problems.images(4, 3, 8, 8), torch.arange(4)
    F.cross_entropy(network(x), y).backward()
    before = [parameter.grad.clone() for parameter in network.parameters()]
    pgd(network, x, y, generator=problems.generator())
    assert all(torch.equal(parameter.grad, was) for parameter, was in zip(network.parameters(), before, strict=True))


def test_a_network_that_gives_nan_is_reported_with_the_samples():
    network = problems.mixed(problems.network())
    modes = problems.modes(network)
    with torch.no_grad():
        network.linear.bias.fill_(math.nan)
    with pytest.raises(FloatingPointError, match=r"samples \[0, 1, 2\]"):
        pgd(network, problems.images(3, 3, 8, 8), torch.zeros(3, dtype=torch.long))
    assert problems.modes(network) == modes


def test_training_examples_cost_one_forward_and_one_backward_a_step(monkeypatch):
    passes, forward = [], Normaliser.forward
    monkeypatch.setattr(Normaliser, "forward", lambda self, x: passes.append(x.requires_grad) or forward(self, x))
    network = problems.network().train()
    training_examples(network, problems.images(4, 3, 8, 8), torch.arange(4), "l2", 0.5, 0.2, 3, True, problems.generator(), "fp32")
    assert passes == [True] * 3


@pytest.mark.parametrize("random_start", [True, False])
@pytest.mark.parametrize(("norm", "eps"), [("l2", 0.5), ("linf", 8 / 255)])
def test_training_examples_are_the_last_iterate_against_the_network_in_eval_mode(norm, eps, random_start):
    network = problems.network(dtype=torch.float64)
    x, y = problems.images(6, 3, 8, 8, dtype=torch.float64), torch.arange(6) % 4
    constraint = ball(norm, eps, x[0].numel())
    start = constraint.random_start(x, problems.generator(2)) if random_start else x
    stepper = Stepper(eps / 2, "sign" if norm == "linf" else "l2")
    wanted = minimise(CrossEntropy(network, y), x, start, constraint, stepper, 3).x
    network.train()
    moved = training_examples(network, x, y, norm, eps, eps / 2, 3, random_start, problems.generator(2), "fp32")
    torch.testing.assert_close(moved, wanted, rtol=0, atol=1e-9)


def _attack(name, network):
    x, y = problems.images(5, 3, 8, 8), torch.arange(5) % 4
    if name == "pgd":
        pgd(network, x, y, steps=2, restarts=2, generator=problems.generator())
    elif name == "adversarial_accuracy":
        adversarial_accuracy(network, x, y, "linf", 0.02, steps=2, restarts=2)
    elif name == "predictions":
        predictions(network, x)
    else:
        training_examples(network, x, y, "l2", 0.5, 0.2, 2, True, problems.generator(), "fp32")


# --- independence of the batch


@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 0.5)])
def test_a_batch_is_attacked_as_its_images_one_by_one(norm, eps):
    network = problems.network(dtype=torch.float64)
    x, y = problems.images(6, 3, 8, 8, dtype=torch.float64), torch.arange(6) % 4
    together = pgd(network, x, y, norm, eps, eps / 4, 10, random_start=False)
    alone = torch.cat([pgd(network, x[i : i + 1], y[i : i + 1], norm, eps, eps / 4, 10, random_start=False) for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-9)


# --- pixel units


@pytest.mark.parametrize(
    ("norm", "eps", "message"),
    [
        ("linf", 8, "eps=8 is outside [0, 1] for linf: radii are in pixel units; did you mean 8/255 = 0.0314?"),
        ("linf", -0.1, "eps=-0.1 is outside [0, 1] for linf: radii are in pixel units"),
        ("linf", 256, "eps=256 is outside [0, 1] for linf: radii are in pixel units"),
        ("l2", 128, "eps=128 is outside [0, 55.4256] for l2: radii are in pixel units"),
        ("l1", 0.1, "norm 'l1' is unknown; allowed: l2, linf"),
    ],
)
def test_a_radius_that_is_not_in_pixel_units_is_refused_with_the_cure(norm, eps, message):
    for attack in (
        lambda: ball(norm, eps, 3 * 32 * 32),
        lambda: pgd(problems.linear((3, 32, 32)), torch.zeros(1, 3, 32, 32), torch.zeros(1, dtype=torch.long), norm, eps),
        lambda: adversarial_accuracy(problems.linear((3, 32, 32)), torch.zeros(1, 3, 32, 32), torch.zeros(1, dtype=torch.long), norm, eps),
    ):
        with pytest.raises(BadInput) as refusal:
            attack()
        assert str(refusal.value) == message


def test_a_radius_that_is_not_a_number_is_refused():
    with pytest.raises(BadInput, match="eps=nan is outside"):
        ball("l2", math.nan, 12)


def test_the_largest_l2_radius_is_the_diameter_of_the_box():
    assert ball("l2", 55.4, 3 * 32 * 32) == L2Ball(55.4)
    assert ball("l2", 387.9, 3 * 224 * 224) == L2Ball(387.9)
    with pytest.raises(BadInput, match=r"eps=388 is outside \[0, 387.979\]"):
        ball("l2", 388, 3 * 224 * 224)


@pytest.mark.parametrize("name", ["steps", "restarts"])
@pytest.mark.parametrize("count", [0, -5, 1.5, True])
def test_at_least_one_step_and_one_restart_are_asked_for(name, count):
    with pytest.raises(BadInput) as refusal:
        pgd(problems.linear(), problems.images(1, 3, 8, 8), torch.zeros(1, dtype=torch.long), **{name: count})
    assert str(refusal.value) == f"{name}={count} is not allowed: give a whole number of at least 1"


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_images_off_the_range_by_a_rounding_error_are_accepted_and_come_back_clipped(norm):
    x = torch.cat([torch.full((1, 3, 8, 8), -3e-8), torch.full((1, 3, 8, 8), 1 + 1.2e-7)])
    moved = pgd(problems.linear(), x, torch.tensor([0, 1]), norm, 0.1, 0.02, 5, generator=problems.generator())
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert not torch.equal(moved, x.clamp(0, 1))


def test_equal_generators_give_equal_attacks_and_no_global_draw_is_made():
    network = problems.network()
    x, y = problems.images(4, 3, 8, 8), torch.arange(4)
    state = torch.get_rng_state()
    one, other = (pgd(network, x, y, generator=problems.generator(9)) for _ in range(2))
    accuracies = [adversarial_accuracy(network, x, y, "l2", 0.5, steps=2, seed=1).correct for _ in range(2)]
    noise_accuracy(network, x, y, "l2", 0.5)
    assert torch.equal(one, other)
    assert torch.equal(*accuracies)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("x", "words"), [(torch.full((2, 3, 8, 8), 200.0), r"lie in \[200, 200\].*divide bytes"), (torch.full((2, 3, 8, 8), -0.5), "-0.5")]
)
def test_images_that_are_not_in_the_box_are_refused(x: torch.Tensor, words: str) -> None:
    model, y = problems.network(), torch.zeros(2, dtype=torch.long)
    with pytest.raises(BadInput, match=words):
        pgd(model, x, y, eps=0.1)
    with pytest.raises(BadInput, match=words):
        adversarial_accuracy(model, x, y, "linf", 0.1)
