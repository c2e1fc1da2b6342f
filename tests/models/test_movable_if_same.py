"""The fast copy of anybody's model: the same answers, made only where it is exact, and the model itself as it was."""

import copy

import problems
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from reprolib.models.layers import movable_if_same
from reprolib.models.networks import Normaliser
from reprolib.perturb.attacks import pgd
from reprolib.perturb.inversion import invert

IMAGES = problems.images(4, 3, 32, 32)
LABELS = torch.arange(4)


def made(*parts: nn.Module) -> nn.Sequential:
    """Parts before pooling and a linear head on 4 channels, their BatchNorms far from the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)).eval()
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.weight, 0.5, 2)
                nn.init.normal_(part.bias)
                if part.running_mean is not None:
                    nn.init.normal_(part.running_mean)
    return model


def conv(n_in: int = 4) -> nn.Conv2d:
    return nn.Conv2d(n_in, 4, 3, padding=1)


def n_norms(model: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in model.modules())


def answer(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.clone().requires_grad_()
    logits = model(x)
    return logits.detach(), torch.autograd.grad(logits.square().sum(), x)[0]


class TwoUsers(nn.Module):
    """What its convolution makes goes into the BatchNorm, and round it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = conv(), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.conv(x)
        return self.bn(made) + made


class Halved(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) / 2


@pytest.mark.parametrize("of", ["resnet18", "w8", "pool", "tinycnn", "lenet"])
def test_the_copy_gives_the_same_logits_and_gradients_without_any_batch_norm(of: str) -> None:
    model = problems.network(of) if of != "resnet18" else resnet18(num_classes=4).eval()
    model, x = model.double(), IMAGES.double()
    copied = movable_if_same(model, x)
    assert copied is not model
    assert n_norms(copied) == 0
    for one, other in zip(answer(copied, x), answer(model, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def shared() -> nn.Sequential:
    twice = conv()
    return made(conv(3), twice, nn.BatchNorm2d(4), twice, nn.BatchNorm2d(4))


@pytest.mark.parametrize(
    ("model", "left"),
    [
        (made(conv(3), nn.BatchNorm2d(4), conv(), nn.BatchNorm2d(4)), 0),
        (made(conv(3), nn.BatchNorm2d(4, track_running_stats=False)), 1),
        (made(conv(3), nn.ReLU(), nn.BatchNorm2d(4)), 1),
        (made(conv(3), TwoUsers()), 1),
        (made(Halved(3, 4, 3), nn.BatchNorm2d(4)), 1),
        (made(nn.utils.parametrizations.weight_norm(conv(3)), nn.BatchNorm2d(4)), 1),
        (shared(), 2),
    ],
    ids=["two pairs", "no statistics", "relu between", "two users", "own forward", "parametrised", "run twice"],
)
def test_only_what_folds_exactly_is_folded(model: nn.Module, left: int) -> None:
    model, x = model.double(), IMAGES.double()
    copied = movable_if_same(model, x)
    assert n_norms(copied) == left
    for one, other in zip(answer(copied, x), answer(model, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_a_model_that_reads_its_maps_in_their_order_in_memory_is_attacked_as_it_is() -> None:
    class Viewing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.view(len(x), -1)[:, :4, None, None]

    model = made(conv(3), nn.BatchNorm2d(4), Viewing())
    assert movable_if_same(model, IMAGES) is model
    assert pgd(model, IMAGES, LABELS, steps=1).shape == IMAGES.shape


@pytest.mark.parametrize("attack", ["pgd", "invert"])
def test_hooks_see_every_pass_of_the_model_itself(attack: str) -> None:
    network, seen = problems.network(), []
    network.convs[0].bn.register_forward_hook(lambda module, given, out: seen.append(module))
    if attack == "pgd":
        pgd(network, IMAGES, LABELS, steps=3, restarts=2)
    else:
        invert(network, IMAGES, IMAGES.flip(0), steps=7)
    assert [module is network.convs[0].bn for module in seen] == [True] * 8


def test_the_model_keeps_its_modes_flags_and_values() -> None:
    network = problems.mixed(problems.network())
    network.linear.bias.requires_grad_(False)
    modes, state, draws = problems.modes(network), copy.deepcopy(network.state_dict()), torch.get_rng_state()
    pgd(network, IMAGES, LABELS, steps=2, generator=problems.generator())
    assert problems.modes(network) == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert [name for name, weight in network.named_parameters() if not weight.requires_grad] == ["linear.bias"]
    assert all(weight.grad is None for weight in network.parameters())
    assert torch.equal(torch.get_rng_state(), draws)


@pytest.mark.parametrize("restarts", [1, 2])
def test_pgd_costs_a_forward_and_a_backward_a_step_and_one_forward_to_judge(restarts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[tuple[int, bool]] = []
    forward = Normaliser.forward
    monkeypatch.setattr(Normaliser, "forward", lambda self, x: passes.append((len(x), x.requires_grad)) or forward(self, x))
    pgd(problems.network(), IMAGES, LABELS, steps=6, restarts=restarts, generator=problems.generator())
    assert passes[:2] == [(4, True)] * 2  # a few images, to compare the copy with the model
    assert passes[2:] == ([(len(IMAGES), True)] * 6 + [(len(IMAGES), False)]) * restarts
