"""A reader's own network: any model from images to logits has maps, a hash and a sentence where it does not fit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import reprolib
from reprolib.errors import BadInput
from reprolib.models.layers import movable, representation
from reprolib.models.mine import MOST_MAPS, Own
from reprolib.models.networks import build

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Functional(nn.Module):
    """Without activation modules, and with a last map of 2 x 2."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 4, 3, 4, 1), nn.Conv2d(4, 6, 3, 2, 1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.second(F.relu(self.first(x)))).mean(dim=(2, 3)))


def plain(n_layers: int = 2) -> nn.Sequential:
    layers = [part for _ in range(n_layers) for part in (nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True))]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))


def test_maps_are_those_after_activations_and_a_gradient_flows_through_them() -> None:
    model = plain()
    own = Own(reprolib.wrap(model, (0.5,) * 3, (0.5,) * 3), IMAGES, n_classes=5)
    assert (len(own.layer_names), own.n_features, own.has_classes) == (2, 3, True)
    normalised = (IMAGES - 0.5) / 0.5
    for (_, map_), expected in zip(own.maps(IMAGES), (model[:2](normalised), model[:4](normalised)), strict=True):
        torch.testing.assert_close(map_, expected)
    assert torch.equal(own(IMAGES), model(normalised))
    x = IMAGES.clone().requires_grad_()
    representation(movable(own), x, pool=4).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(weight.requires_grad for weight in model.parameters())  # the reader's own is as it was


def test_without_activation_modules_maps_are_those_of_every_module_but_the_last_and_a_small_last_one_is_repeated() -> None:
    model = Functional()
    own = Own(model, IMAGES, n_classes=10)
    shapes = [tuple(map_.shape) for _, map_ in own.maps(IMAGES)]
    assert shapes == [(3, 4, 4, 4), (3, 6, 4, 4)]
    assert not own.has_classes
    expected = model.second(F.relu(model.first(IMAGES)))
    assert torch.equal(representation(own, IMAGES, pool=4), expected.repeat_interleave(2, 2).repeat_interleave(2, 3).flatten(1))


def test_of_many_maps_some_are_taken_evenly_and_the_last() -> None:
    whole, few = Own(plain(70), IMAGES, 5), Own(plain(MOST_MAPS), IMAGES, 5)
    assert len(few.layer_names) == MOST_MAPS
    assert 70 / 3 <= len(whole.layer_names) <= MOST_MAPS
    assert whole.layer_names[-1].endswith(" 139")


def test_the_hash_is_of_weights_and_structure_and_not_of_the_place_among_several() -> None:
    network = build("tinycnn", 5, (0.5,) * 3, (0.5,) * 3, seed=0)
    one, again, other = (
        Own(net, IMAGES, 5, seed) for seed, net in enumerate((network, network, build("tinycnn", 5, (0.5,) * 3, (0.5,) * 3, 1)))
    )
    assert one.sha256 == again.sha256 != other.sha256
    assert one.layer_names == network.layer_names
    soft = plain()
    soft[1] = nn.GELU()
    soft.load_state_dict((hard := plain()).state_dict())
    assert Own(hard, IMAGES, 5).sha256 != Own(soft, IMAGES, 5).sha256


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(588, 5)), "expected input.* to have 1 channels"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3072, 9), nn.ReLU(), nn.Linear(9, 5)), "cannot be multiplied"),
        (nn.Conv2d(3, 5, 3), "logits .n, classes. are needed"),
    ],
)
def test_a_network_that_does_not_take_the_images_is_refused_in_a_sentence(model: nn.Module, reason: str) -> None:
    with pytest.raises(
        BadInput, match=f"^your network .* does not take images of 3 channels and 16 x 16 px, those of this scale: .*{reason}"
    ):
        Own(model, IMAGES, 5)


class OneLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(768, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


def test_a_network_without_layers_to_compare_is_refused() -> None:
    with pytest.raises(
        BadInput, match=r"^your network OneLayer has 0 layers inside that give features of each image: at least 2 are compared"
    ):
        Own(OneLayer(), IMAGES, 5)
