"""CapsNet-small: routing that knows one image at a time, and the traps of published implementations."""

from __future__ import annotations

import problems
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.models import capsnet
from reprolib.models.capsnet import CapsNet, length, margin_loss, route, squash
from reprolib.models.layers import features
from reprolib.models.networks import CAPSULES, build
from reprolib.perturb.attacks import pgd, predictions
from reprolib.scales import Schedule
from reprolib.training.loop import train
from reprolib.training.objective import Objective
from reprolib.training.recipes import recipe


def fresh(size_px: int = 20, n_classes: int = 4, seed: int = 0) -> CapsNet:
    network = build(CAPSULES, n_classes, problems.MEAN, problems.STD, seed, size_px).eval()
    assert isinstance(network, CapsNet)
    return network


def test_the_image_alone_decides_and_two_calls_agree_exactly() -> None:
    network, x = fresh(), problems.images(5, 3, 20, 20)
    with torch.no_grad():
        together = network(x)
        assert torch.equal(together, network(x))
        for i in range(len(x)):
            torch.testing.assert_close(network(x[i : i + 1])[0], together[i], rtol=0, atol=1e-6)
    assert not list(network.normaliser.parameters())
    assert {name for name, _ in network.named_buffers()} == {"normaliser.mean", "normaliser.std"}  # no routing logits are kept


def test_couplings_of_an_input_capsule_sum_to_one_over_the_outputs() -> None:
    votes = torch.randn(3, 4, 6, 5, generator=problems.generator())
    found, couplings = route(votes)
    torch.testing.assert_close(couplings.sum(dim=1), torch.ones(3, 6))
    assert couplings.std() > 0.01
    one_way, even = route(votes, iterations=1)
    torch.testing.assert_close(even, torch.full((3, 4, 6), 0.25))
    torch.testing.assert_close(one_way, squash(votes.sum(dim=2) / 4, dim=2))
    assert (found - one_way).abs().max() > 0.01


def test_routing_is_that_of_a_plain_loop() -> None:
    votes = torch.randn(2, 3, 4, 5, generator=problems.generator(1), dtype=torch.float64)
    for sample, found in zip(votes, route(votes)[0], strict=True):
        logits = torch.zeros(4, 3, dtype=torch.float64)
        for _ in range(3):
            couplings = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
            s = [sum(couplings[i, j] * sample[j, i] for i in range(4)) for j in range(3)]
            v = [one / one.norm() * one.norm() ** 2 / (1 + one.norm() ** 2) for one in s]  # type: ignore[union-attr]
            logits = logits + torch.stack([torch.stack([sample[j, i] @ v[j] for j in range(3)]) for i in range(4)])
        torch.testing.assert_close(found, torch.stack(v), rtol=1e-6, atol=1e-6)


def test_capsules_that_agree_win_the_coupling() -> None:
    votes = torch.zeros(1, 2, 3, 4)
    votes[0, 0] = torch.tensor([3.0, 0, 0, 0])  # all three say the same of class 0
    votes[0, 1] = torch.tensor([[3.0, 0, 0, 0], [-3.0, 0, 0, 0], [0, 0, 0, 0]])  # of class 1 they disagree
    found, couplings = route(votes)
    assert (couplings[0, 0] > 0.9).all()
    assert length(found)[0, 0] > 0.9 > 0.1 > length(found)[0, 1]


def test_squash_keeps_the_direction_and_shortens_along_its_dimension() -> None:
    s = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    torch.testing.assert_close(squash(s, dim=1).norm(dim=1), torch.tensor([25 / 26, 0.25 / 1.25]))
    torch.testing.assert_close(F.normalize(squash(s, dim=1), dim=1), F.normalize(s, dim=1))
    torch.testing.assert_close(squash(s.T, dim=0), squash(s, dim=1).T)


def test_a_capsule_of_length_zero_has_a_finite_gradient() -> None:
    s = torch.zeros(2, 3, 4, requires_grad=True)
    loss = margin_loss(length(squash(s, dim=2)), torch.tensor([0, 1])) + length(squash(s, dim=2)).log().sum()
    (gradient,) = torch.autograd.grad(loss, s)
    assert gradient.isfinite().all()


def test_the_margin_loss_is_squared_and_halves_the_absent() -> None:
    lengths = torch.tensor([[0.7, 0.3, 0.05], [0.95, 0.1, 0.6]])
    wanted = ((0.9 - 0.7) ** 2 + 0.5 * 0.2**2 + 0.8**2 + 0.5 * (0.85**2 + 0)) / 2  # the second is of class 1, at .1; class 2 at .6
    assert margin_loss(lengths, torch.tensor([0, 1])).item() == pytest.approx(wanted + 0.5 * 0.5**2 / 2, abs=1e-6)


def test_a_softmax_of_the_output_is_the_lengths_normalised() -> None:
    network, x = fresh(), problems.images(4, 3, 20, 20)
    with torch.no_grad():
        lengths = length(network.capsules(x))
        torch.testing.assert_close(network(x).softmax(dim=1), lengths / lengths.sum(dim=1, keepdim=True))
        assert ((lengths > 0) & (lengths < 1)).all()
        assert torch.equal(predictions(network, x), lengths.argmax(dim=1))
        torch.testing.assert_close(features(network, x, ["pooled"])["pooled"], network.capsules(x).flatten(1))
    assert tuple(name for name, _ in network.maps(x)) == network.layer_names


def test_the_decoder_is_given_the_capsule_of_the_label_alone_and_aims_at_pixels() -> None:
    network, x, y = fresh(), problems.images(3, 3, 20, 20), torch.tensor([2, 0, 1])
    capsules = network.capsules(x)
    rebuilt = network.decode(capsules, y)
    other = capsules.clone()
    other[0, [0, 1, 3]] += 1
    assert torch.equal(network.decode(other, y)[0], rebuilt[0])
    assert rebuilt.shape == (3, 1200)
    assert (rebuilt > 0).all()
    assert (rebuilt < 1).all()
    wanted = margin_loss(length(capsules), y) + 0.1 * (rebuilt - x.flatten(1)).square().mean()  # a mean, not a sum
    torch.testing.assert_close(network.loss(x, y), wanted)
    torch.testing.assert_close(Objective(recipe("std"), "fp32", 1)(network, x, y), wanted)


def test_one_image_is_learnt_by_heart_decoder_and_all() -> None:
    network, x, y = fresh().train(), problems.images(1, 3, 20, 20), torch.tensor([3])
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(80):
        loss = network.loss(x, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        assert F.mse_loss(network.decode(network.capsules(x), y), x.flatten(1)) < 0.02  # of 1/12 for grey
        assert predictions(network, x).tolist() == [3]


def stripes(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Bars that stand or lie, two classes, uint8."""
    y = torch.arange(n) % 2
    bars = (torch.arange(20) // 3 % 2 * 160).expand(20, 20)
    noise = torch.randint(0, 80, (n, 3, 20, 20), generator=problems.generator(seed))
    return (torch.stack([bars if k else bars.T for k in y.tolist()])[:, None] + noise).to(torch.uint8), y


def test_the_loop_trains_it_and_an_attack_finds_its_gradient() -> None:
    network, (x, y) = fresh(n_classes=2), stripes(96, 0)
    schedule = Schedule(n_images=0, epochs=3, attack_steps=1, batch_size=16)
    train(network, x, y, recipe("std"), schedule, 0, ("linf", 0.1))
    tested, labels = stripes(40, 1)
    assert (predictions(network, tested.float() / 255) == labels).float().mean() > 0.9
    attacked = pgd(network, tested[:8].float() / 255, labels[:8], eps=0.5, step=0.1, steps=10)
    with torch.no_grad():
        before, after = (F.cross_entropy(network(z), labels[:8]) for z in (tested[:8].float() / 255, attacked))
    assert after > before + 0.1


def test_what_has_no_meaning_for_capsules_is_refused() -> None:
    with pytest.raises(BadInput, match="size_px=16 is too small for capsnet_small: images of at least 17 px a side"):
        fresh(size_px=16)
    assert fresh(size_px=17)(torch.zeros(1, 3, 17, 17)).shape == (1, 4)
    for name in ("label_smoothing", "snnl_m01"):
        with pytest.raises(BadInput, match=f"recipe {name} changes the cross-entropy: capsules have a loss of their own"):
            Objective(recipe(name), "fp32", 1)(fresh(), torch.zeros(2, 3, 20, 20), torch.tensor([0, 1]))


def test_it_has_the_sizes_of_the_table() -> None:
    network = fresh(size_px=28, n_classes=10)
    maps = dict(network.maps(torch.zeros(1, 3, 28, 28)))
    assert {name: tuple(value.shape[1:]) for name, value in maps.items()} == {
        "conv1": (64, 20, 20), "primary": (64, 6, 6), "capsules": (160, 1, 1)
    }  # fmt: skip
    assert network.votes.shape == (288, 8, 160)
    assert capsnet.ITERATIONS == 3
