"""DeepFool against closed forms on linear classifiers, in the pixel range and at its ends, and on networks of the study."""

import math

import problems
import pytest
import torch
from torch import nn

from reprolib.errors import BadInput
from reprolib.perturb.attacks import predictions
from reprolib.perturb.deepfool import deepfool


class Affine(nn.Module):
    """Five classes, logits <w_k, x - .5> + b_k: the distance to each boundary is known."""

    def __init__(self, shape=(3, 8, 8), n_classes=5, seed=0, scale=1.0):
        super().__init__()
        n = math.prod(shape)
        self.w = nn.Parameter(scale * torch.randn((n_classes, n), generator=problems.generator(seed)) / math.sqrt(n))
        self.b = nn.Parameter(scale * 0.1 * torch.randn(n_classes, generator=problems.generator(seed + 1)))

    def forward(self, x):
        return (x - 0.5).flatten(1) @ self.w.T + self.b

    def nearest(self, x, y):
        """(n,) min_k |z_k - z_y| / ||w_k - w_y||, and the class that has it."""
        z = self(x).detach()
        away = (z - z.gather(1, y[:, None])).abs() / (self.w[None] - self.w[y][:, None]).norm(dim=2).detach()
        return away.scatter(1, y[:, None], math.inf).min(dim=1)


def affine(**how):
    model = Affine(**how)
    x = problems.images(40, 3, 8, 8, low=0.35, high=0.65)
    return model, x, model(x).argmax(dim=1)


# --- closed forms


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_on_a_linear_classifier_the_distance_is_that_to_the_nearest_boundary(scale):
    model, x, y = affine(scale=scale)
    found = deepfool(model, x, y)
    distance, nearest = model.nearest(x, y)
    assert found.succeeded.all()
    torch.testing.assert_close(found.distance / 1.02, distance, rtol=0, atol=1e-4)
    assert torch.equal(predictions(model, found.x), nearest)
    assert len(nearest.unique()) > 2
    torch.testing.assert_close(found.distance, (found.x - x).flatten(1).norm(dim=1))


def test_the_way_is_lengthened_by_the_overshoot():
    model, x, y = affine()
    one, other = (deepfool(model, x, y, overshoot=share).distance for share in (0.02, 0.5))
    torch.testing.assert_close(other / 1.5, one / 1.02, rtol=1e-4, atol=1e-5)


def test_an_image_on_the_boundary_itself_crosses_it():
    model = problems.linear()
    x = torch.full((1, 3, 8, 8), 0.5)
    found = deepfool(model, x, torch.zeros(1, dtype=torch.long))
    assert found.succeeded.all()
    assert 0 < found.distance.item() < 1e-4


def test_at_the_ends_of_the_pixel_range_the_nearest_image_of_the_other_class_is_found():
    """It is x + t w clipped to the box, for the t at which z crosses 0: pixels that cannot move leave the way to the others."""
    model = problems.linear()
    x = problems.images(30, 3, 8, 8).round().mul(0.9) + 0.05 * problems.images(30, 3, 8, 8, seed=1).round()
    y = model.labels(x)
    found = deepfool(model, x, y, steps=8, overshoot=1e-4)  # clipping alone would take more steps
    towards = model.w.detach() * (1 - 2 * y).view(-1, 1, 1, 1)
    low, high = torch.zeros(30), torch.full((30,), 50.0)
    for _ in range(60):
        t = (low + high) / 2
        is_crossed = model.labels((x + t.view(-1, 1, 1, 1) * towards).clamp(0, 1)) != y
        low, high = torch.where(is_crossed, low, t), torch.where(is_crossed, t, high)
    wanted = ((x + high.view(-1, 1, 1, 1) * towards).clamp(0, 1) - x).flatten(1).norm(dim=1)
    assert ((found.x == 0) | (found.x == 1)).flatten(1).sum(dim=1).min() > 10
    assert found.succeeded.all()
    assert (wanted > 1.1 * model.margin(x, "l2")).any()  # the bounds matter
    torch.testing.assert_close(found.distance, wanted, rtol=1e-3, atol=1e-4)


def test_images_that_are_wrong_from_the_start_stay_as_they_are():
    model, x, y = affine()
    y[::2] = (y[::2] + 1) % 5
    found = deepfool(model, x, y)
    assert found.succeeded.all()
    assert torch.equal(found.x[::2], x[::2])
    assert torch.equal(found.distance > 0, torch.arange(40) % 2 == 1)


def test_what_has_no_gradient_is_not_moved_and_did_not_succeed():
    model, x, y = affine()
    with torch.no_grad():
        model.w.zero_()
        y.fill_(int(model.b.argmax()))
    found = deepfool(model, x, y)
    assert not found.succeeded.any()
    assert torch.equal(found.x, x)


# --- networks


@pytest.mark.parametrize("architecture", ["tinycnn", "pool", "capsnet_small"])
def test_networks_are_fooled_nearer_than_their_gradient_alone_would(architecture):
    """Also capsules, whose outputs are logarithms of lengths; the lengths themselves would have the same boundaries."""
    network = problems.network(architecture, size_px=20)
    x = problems.images(6, 3, 20, 20, low=0.1, high=0.9)
    y = predictions(network, x)
    found = deepfool(network, x, y)
    assert found.succeeded.all()
    assert found.x.min() >= 0
    assert found.x.max() <= 1
    assert torch.equal(predictions(network, found.x) != y, found.succeeded)
    moved = x.clone().requires_grad_()
    gradient = torch.autograd.grad(network(moved).gather(1, y[:, None]).sum(), moved)[0]
    along = x - found.distance.view(-1, 1, 1, 1) * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    back = x + 0.9 * (found.x - x)
    assert torch.equal(predictions(network, back), y)  # no farther than the boundary and the overshoot
    assert (predictions(network, along.clamp(0, 1)) == y).any()


def test_batches_and_neighbours_do_not_matter():
    network = problems.network(dtype=torch.float64, size_px=16)
    x = problems.images(7, 3, 16, 16, dtype=torch.float64)
    y = predictions(network, x)
    together = deepfool(network, x, y)
    torch.testing.assert_close(deepfool(network, x, y, batch_size=2).x, together.x, rtol=0, atol=1e-9)
    torch.testing.assert_close(deepfool(network, x[3:4], y[3:4]).x, together.x[3:4], rtol=0, atol=1e-9)


def test_an_image_that_needs_more_steps_than_it_has_did_not_succeed():
    network = problems.network("capsnet_small", size_px=20)
    x = problems.images(6, 3, 20, 20)
    y = predictions(network, x)
    few, many = deepfool(network, x, y, steps=1), deepfool(network, x, y)
    assert many.succeeded.sum() > few.succeeded.sum()
    assert torch.equal(few.succeeded, predictions(network, few.x) != y)


def test_the_network_is_handed_back_as_it_was():
    network = problems.mixed(problems.network(size_px=16))
    modes, buffers = problems.modes(network), problems.buffers(network)
    x = problems.images(4, 3, 16, 16)
    with torch.inference_mode():
        deepfool(network, x.clone(), predictions(network, x))
    assert problems.modes(network) == modes
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in network.named_buffers())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


# --- what is refused


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"steps": 0}, "steps=0 is not allowed: give a whole number of at least 1"),
        ({"batch_size": 0}, "batch_size=0 is not allowed"),
        ({"overshoot": -0.1}, "overshoot=-0.1 is not allowed: give a share of at least 0, such as 0.02"),
        ({"overshoot": math.nan}, "overshoot=nan is not allowed"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_cure(how, words):
    model, x, y = affine()
    with pytest.raises(BadInput, match=words):
        deepfool(model, x, y, **how)


def test_bytes_labels_that_no_class_has_and_outputs_without_a_gradient_are_refused():
    model, x, y = affine()
    with pytest.raises(BadInput, match="divide bytes by 255"):
        deepfool(model, x * 255, y)
    with pytest.raises(BadInput, match="label 5 of image 0"):
        deepfool(model, x, y.fill_(5))

    class Detached(Affine):
        def forward(self, x):
            return super().forward(x).detach()

    with pytest.raises(BadInput, match="nothing can be differentiated"):
        deepfool(Detached(), x, y.fill_(0))


def test_gradients_that_are_not_finite_are_reported_with_the_images():
    class Root(Affine):
        def forward(self, x):
            return super().forward(x) + (x[:, :1, 0, 0] - x[:, :1, 0, 0]).sqrt()

    _, x, _ = affine()
    model = Root()
    with pytest.raises(FloatingPointError, match=r"not finite at step 0 for samples \[0, 1, 2, 3, 4, 5, 6, 7\]"):
        deepfool(model, x, predictions(model, x))
