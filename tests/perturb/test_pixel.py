"""The one-pixel attack: planted weaknesses it must climb to, exactly as many pixels as asked for, and images that do not matter to each other."""

import problems
import pytest
import torch
from torch import nn

from reprolib.errors import BadInput
from reprolib.perturb.attacks import predictions
from reprolib.perturb.pixel import LEAST_POPULATION, _apart, one_pixel


class Weak(nn.Module):
    """Class 0, unless pixels near `place` are bright in the last channel and dark in the others: logit 1 grows as one gets there.

    Its evidence is the largest over pixels of a bump of 6 px times how near the colour is; class 1 is given from `needed` on, which is
    reached within 1.5 px of the place by the right colour alone. sure: factor of the logits.
    """

    def __init__(self, place=(21, 6), channels=3, side=32, needed=0.9, sure=1.0):
        super().__init__()
        row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        self.bump = torch.exp(-((row - place[0]) ** 2 + (column - place[1]) ** 2) / (2 * 6.0**2))
        self.colour = torch.tensor([0.0] * (channels - 1) + [1.0]).view(1, -1, 1, 1)
        self.needed, self.sure = needed, sure

    def forward(self, x):
        near = 1 - (x - self.colour).abs().mean(dim=1)
        evidence = (self.bump * near).flatten(1).amax(dim=1)
        return self.sure * torch.stack([self.needed - evidence, evidence - self.needed], dim=1)


def grey(n, channels=3, side=32):
    return torch.full((n, channels, side, side), 0.4) + 0.01 * problems.images(n, channels, side, side)


def changed(one, other):
    """How many pixels of each image (n,) are different."""
    return (one != other).any(dim=1).flatten(1).sum(dim=1)


# --- what it finds


@pytest.mark.parametrize("sure", [1.0, 1e4])
def test_a_weakness_at_one_place_and_colour_is_found(sure):
    """Also of a network so sure of itself that probabilities round to 1: among 100 first candidates hardly any comes near."""
    model, x, y = Weak(sure=sure), grey(4), torch.zeros(4, dtype=torch.long)
    found = one_pixel(model, x, y)
    assert not one_pixel(model, x, y, generations=1, population=10).succeeded.any()
    assert found.succeeded.all()
    assert torch.equal(predictions(model, found.x), 1 - y)
    assert changed(found.x, x).tolist() == [1] * 4
    places = (found.x != x).any(dim=1).nonzero()[:, 1:]
    assert (places - torch.tensor([21, 6])).abs().max() <= 2
    torch.testing.assert_close(found.distance, (found.x - x).flatten(1).norm(dim=1))


def test_grey_images_of_one_channel_are_attacked_too():
    model, x = Weak(channels=1, needed=0.97), grey(3, channels=1)
    found = one_pixel(model, x, torch.zeros(3, dtype=torch.long))
    assert found.succeeded.all()
    assert changed(found.x, x).tolist() == [1] * 3


def test_an_image_that_is_not_fooled_comes_back_as_its_least_probable_candidate():
    model, x, y = Weak(needed=1.5), grey(2), torch.zeros(2, dtype=torch.long)
    few, many = (one_pixel(model, x, y, generations=k) for k in (1, 30))
    assert not many.succeeded.any()
    assert (model(many.x)[:, 1] > model(few.x)[:, 1]).all()
    assert (model(many.x)[:, 1] + 1.5 > 0.95).all()  # of at most 1
    assert changed(many.x, x).tolist() == [1, 1]


def test_a_candidate_that_is_misclassified_counts_even_where_the_class_is_more_probable_than_before():
    class Trap(nn.Module):
        """Label 0 at a probability of .34; once the pixel in the middle changes it is missed, at .49."""

        def forward(self, x):
            recognised, missed = torch.tensor([[0.34, 0.33, 0.33]]).log(), torch.tensor([[0.49, 0.5099, 0.0001]]).log()
            return torch.where((x[:, :1, 4, 4] - 0.4).abs() > 0.02, missed, recognised) + 0 * x.flatten(1)[:, :1]

    x, y = grey(12, side=8), torch.zeros(12, dtype=torch.long)
    few, many = (one_pixel(Trap(), x, y, population=6, generations=k).succeeded.sum() for k in (1, 100))
    assert many > few + 2


# --- what it changes


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("pixels", [1, 3, 16])
def test_exactly_as_many_pixels_as_asked_for_change(pixels, value):
    """Of 16 positions all, and of black and white images too, where many a candidate has the colour that is there."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    x = torch.full((5, 1, 4, 4), value)
    y = predictions(model, x)
    with torch.no_grad():
        model[1].bias[y[0]] += 100  # never fooled
    found = one_pixel(model, x, y, pixels=pixels, population=20, generations=3)
    assert changed(found.x, x).tolist() == [pixels] * 5
    assert found.x.min() >= 0
    assert found.x.max() <= 1


def test_places_that_are_taken_give_way_to_the_next_that_is_free():
    assert _apart(torch.tensor([[3, 3, 3], [0, 2, 1], [15, 15, 0], [0, 1, 0]]), 16).tolist() == [
        [3, 4, 5],
        [0, 2, 1],
        [15, 0, 1],
        [0, 1, 2],
    ]


def test_images_that_are_wrong_from_the_start_stay_as_they_are():
    model, x = Weak(), grey(4)
    found = one_pixel(model, x, torch.tensor([1, 0, 1, 0]))
    assert found.succeeded.all()
    assert changed(found.x, x).tolist() == [0, 1, 0, 1]
    assert found.distance[::2].tolist() == [0, 0]


# --- what it depends on


def test_an_image_is_attacked_as_if_it_were_alone():
    network = problems.network(dtype=torch.float64, size_px=16)
    x = problems.images(4, 3, 16, 16, dtype=torch.float64)
    y = predictions(network, x)
    y[2] = (y[2] + 1) % 4
    how = {"population": 20, "generations": 4}
    together = one_pixel(network, x, y, **how)
    for i in range(4):
        alone = one_pixel(network, x[i : i + 1], y[i : i + 1], **how)
        torch.testing.assert_close(alone.x, together.x[i : i + 1], rtol=0, atol=1e-9)
        assert alone.succeeded == together.succeeded[i]
    torch.testing.assert_close(one_pixel(network, x, y, **how, batch_size=7).x, together.x, rtol=0, atol=1e-9)


def test_draws_hang_on_the_seed_and_the_image_and_on_nothing_global():
    model, x, y = Weak(needed=1.5), grey(1).repeat(2, 1, 1, 1), torch.zeros(2, dtype=torch.long)
    x[1, 0, 31, 31] = 0.5
    how = {"population": 20, "generations": 2}
    state = torch.get_rng_state()
    one, again, other = (one_pixel(model, x, y, **how, seed=seed).x for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one[0] - x[0], one[1] - x[1])


def test_the_population_is_judged_once_a_generation_until_the_image_is_fooled():
    network = problems.network(size_px=16)
    with torch.no_grad():
        network.linear.bias[1] += 1000
    x, y = problems.images(2, 3, 16, 16), torch.ones(2, dtype=torch.long)
    seen = []
    network.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))  # no copy is made of it, so it is all seen
    one_pixel(network, x, y, population=10, generations=3)
    assert sum(seen) == 2 + 2 * 10 * (3 + 1) + 2


# --- what is refused


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"pixels": 0}, "pixels=0 is not allowed: give a whole number of at least 1"),
        ({"pixels": 1025}, "pixels=1025 is not allowed: images of 32 x 32 have 1024"),
        ({"population": LEAST_POPULATION - 1}, "population=3 is too small for differences of candidates: give at least 4"),
        ({"generations": 0}, "generations=0 is not allowed"),
        ({"batch_size": 0}, "batch_size=0 is not allowed"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_cure(how, words):
    with pytest.raises(BadInput, match=words):
        one_pixel(Weak(), grey(1), torch.zeros(1, dtype=torch.long), **how)


def test_bytes_and_labels_that_no_class_has_are_refused():
    with pytest.raises(BadInput, match="divide bytes by 255"):
        one_pixel(Weak(), grey(1) * 255, torch.zeros(1, dtype=torch.long))
    with pytest.raises(BadInput, match="label 2 of image 0"):
        one_pixel(Weak(), grey(1), torch.tensor([2]))


@pytest.mark.parametrize("architecture", ["tinycnn", "capsnet_small"])
def test_the_network_is_handed_back_as_it_was(architecture):
    network = problems.network(architecture, size_px=20).train()
    modes, buffers = problems.modes(network), problems.buffers(network)
    x = problems.images(2, 3, 20, 20)
    with torch.inference_mode():
        found = one_pixel(network, x.clone(), predictions(network, x), population=5, generations=1)
    assert torch.equal(changed(found.x, x), torch.ones(2, dtype=torch.long))
    assert problems.modes(network) == modes
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in network.named_buffers())
