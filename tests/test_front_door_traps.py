"""What other people's models do: write over what they are given, hide their gradient, keep notes in attributes, branch on the image."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import reprolib
from reprolib.errors import BadInput
from reprolib.models.layers import movable_if_same
from reprolib.perturb.attacks import pgd, predictions

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


class Small(nn.Module):
    """Convolution, BatchNorm, ReLU and five logits, on images of 8 px."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.bn, self.relu, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace), nn.Linear(4 * 64, 5)
        self.bn.running_mean.uniform_(-1, 1)  # type: ignore[union-attr, operator]
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu(self.bn(self.conv(x))).flatten(1))


@pytest.fixture
def x() -> Tensor:
    return torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def y() -> Tensor:
    return torch.arange(8) % 5


def test_a_model_that_writes_over_its_input_leaves_the_callers_images(x: Tensor, y: Tensor) -> None:
    class Writes(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.sub_(0.5).div_(0.25))

    before, model = x.clone(), Writes()
    wanted = predictions(reprolib.wrap(Small(), (0.5,) * 3, (0.25,) * 3), x)
    assert torch.equal(predictions(model, x), wanted)
    reprolib.cka_map(model, x)
    reprolib.inverses(model, x[:2], steps=2)
    reprolib.attack_accuracy(model, x, y, steps=2, restarts=1)
    pgd(model, x, y, steps=2)
    assert torch.equal(x, before)


def test_a_model_whose_mode_merges_weights_is_given_back_unmerged(x: Tensor, y: Tensor) -> None:
    class Adapter(Small):
        def train(self, mode: bool = True) -> Adapter:
            if mode != self.training:
                self.fc.weight.data += 0.25 if not mode else -0.25
            return super().train(mode)

    model = Adapter().train()
    before = model.fc.weight.clone()
    pgd(model, x, y, steps=1)
    assert model.training
    assert torch.allclose(model.fc.weight, before, atol=1e-6)


@pytest.mark.parametrize("hide", [lambda model: torch.no_grad()(model.forward), lambda model: lambda x: Small.forward(model, x.detach())])
def test_a_model_without_a_gradient_is_refused_in_a_sentence(x: Tensor, y: Tensor, hide) -> None:  # type: ignore[no-untyped-def]
    model = Small()
    model.forward = hide(model)  # type: ignore[method-assign]
    for ask in (lambda: pgd(model, x, y, steps=2), lambda: reprolib.attack_accuracy(model, x, y, steps=2)):
        with pytest.raises(BadInput, match="nothing can be differentiated from the network's output to its images"):
            ask()


def test_a_copy_is_attacked_only_where_it_answers_alike_on_several_images(x: Tensor) -> None:
    class Branches(Small):
        def forward(self, x: Tensor) -> Tensor:  # of two BatchNorms, image by image
            return torch.cat([self.other(one[None]) if one.mean() < 0.3 else super(Branches, self).forward(one[None]) for one in x])

        def other(self, x: Tensor) -> Tensor:
            return self.fc(self.relu(self.conv(x)).flatten(1))

    class Views(Small):
        def forward(self, x: Tensor) -> Tensor:  # in the channels_last format this fails for more than one image
            h = self.bn(self.conv(x))
            return self.fc(h.view(len(h) * 2, -1, 8, 8).relu().reshape(len(h), -1))

    x[2:] *= 0.2
    for model in (Branches(), Views()):
        assert torch.allclose(movable_if_same(model, x)(x), model(x), atol=1e-5)
    plain = Small()
    assert movable_if_same(plain, x) is not plain


def test_a_code_is_what_its_layer_gave_though_the_next_one_writes_over_it(x: Tensor) -> None:
    values = [reprolib.inverses(Small(inplace), x[:3], layer="bn", steps=5).value for inplace in (False, True)]
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_notes_on_a_module_are_no_normaliser(x: Tensor, tmp_path: Path) -> None:
    class Noise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.tensor(0.0))
            self.register_buffer("std", torch.tensor(0.1))

        def forward(self, x: Tensor) -> Tensor:
            return x

    noted, noisy, plain = Small(), nn.Sequential(Noise(), Small()), Small()
    noted.mean, noted.std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.25]  # type: ignore[assignment]
    wanted = reprolib.wrap(plain, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25))(x)
    for model in (noted, noisy):
        torch.save(model.state_dict(), tmp_path / "net.pth")
        with pytest.raises(BadInput, match="holds a normaliser: give mean= and std="):
            reprolib.open_checkpoint(tmp_path / "net.pth", model)
        opened = reprolib.open_checkpoint(tmp_path / "net.pth", model, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
        assert torch.allclose(opened(x), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda x, y: reprolib.wrap(Small, **PLAIN), "is no network: give a module, made of its class"),
        (lambda x, y: reprolib.wrap(Small(), 0.5, 0.2), "give one number of each a channel"),
        (lambda x, y: reprolib.attack_accuracy(Small(), x, torch.tensor(3)), "1 labels for 8 images"),
        (lambda x, y: reprolib.inverses(Small(), x, batch_size=0), "batch_size=0 is not allowed"),
        (lambda x, y: reprolib.inverses(nn.Sequential(Small(), nn.LSTM(5, 5), Takes()), x, layer="1"), "gives a tuple, no tensor"),
        (lambda x, y: reprolib.cue_conflict(Small(), classes={"cat": 3, "dog": 4}, size_px=8), "is no list of logits"),
        (lambda x, y: reprolib.cue_conflict(Small(), classes={"cat": [3.7], "dog": [4]}, size_px=8), "logit 3.7 of category 'cat'"),
        (lambda x, y: reprolib.cue_conflict(Small(), classes=["cat", "dog"], size_px=8), "is no mapping"),
    ],
)
def test_wrong_arguments_end_in_a_sentence(x: Tensor, y: Tensor, ask, words: str) -> None:  # type: ignore[no-untyped-def]
    if "logit" in words and not reprolib.data.cue_conflict.STIMULI.find():
        pytest.skip("cue-conflict stimuli are not here")
    with pytest.raises(BadInput, match=words):
        ask(x, y)


class Takes(nn.Module):
    """The first of a tuple."""

    def forward(self, given: tuple[Tensor, ...]) -> Tensor:
        return given[0]
