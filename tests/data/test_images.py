"""A labelled set is told by its pixels and labels, and refuses what is no set of images."""

import hashlib

import numpy as np
import pytest
import torch

from reprolib.data.images import as_rgb, images, pick, shrink
from reprolib.errors import BadInput


def toy(n: int = 3):
    return torch.arange(n * 3 * 4 * 4).reshape(n, 3, 4, 4).to(torch.uint8), torch.arange(n) % 2


def test_the_hash_is_that_of_the_pixels_followed_by_the_labels():
    x, y = toy()
    assert images(x, y, ("a", "b"), "toy").sha256 == hashlib.sha256(x.numpy().tobytes() + y.numpy().tobytes()).hexdigest()


def test_a_pixel_a_label_or_the_order_changes_the_hash_and_the_name_does_not():
    x, y = toy()
    first = images(x, y, ("a", "b"), "toy").sha256
    brighter = x.clone()
    brighter[2, 1, 3, 0] += 1
    others = [(brighter, y), (x, 1 - y), (x.flip(0), y.flip(0))]
    assert len({first, *(images(*other, ("a", "b"), "toy").sha256 for other in others)}) == 4
    assert images(x, y, ("c", "d"), "other").sha256 == first


def test_what_lies_otherwise_in_memory_is_the_same_set():
    x, y = toy()
    scattered = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert not scattered.is_contiguous()
    found = images(scattered, y.to(torch.int32), ("a", "b"), "toy")
    assert found.sha256 == images(x, y, ("a", "b"), "toy").sha256
    assert (found.x.is_contiguous(), found.y.dtype, len(found)) == (True, torch.int64, 3)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2), r"pixels are torch.float32 of shape \(2, 3, 4, 4\), allowed is uint8"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(2), "allowed is uint8 of shape"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3), r"labels have shape \(3,\) for 2 images"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 2]), "labels run from 0 to 2, allowed is 0 to 1"),
    ],
)
def test_images_that_are_none_are_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        images(x, y, ("a", "b"), "toy")


def grey(n: int = 2, size_px: int = 28, seed: int = 0):
    x = torch.randint(0, 256, (n, 1, size_px, size_px), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return images(x, torch.arange(n) % 2, ("a", "b"), "grey")


def triangle(n_in: int, n_out: int) -> np.ndarray:
    """(n_out, n_in) weights of an antialiased bilinear filter, from its definition: a triangle, cut at the border."""
    scale = n_in / n_out
    distance = np.abs((np.arange(n_out)[:, None] + 0.5) * scale - (np.arange(n_in)[None] + 0.5)) / max(scale, 1.0)
    weights = np.maximum(1 - distance, 0)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size_px", [32, 28, 20, 7])
def test_as_rgb_is_the_triangle_filter_repeated_over_three_channels(size_px):
    source = grey()
    found = as_rgb(source, size_px)
    weights = triangle(28, size_px)
    expected = np.einsum("oi,ncij,pj->ncop", weights, source.x.double().numpy(), weights)
    assert found.x.shape == (2, 3, size_px, size_px)
    assert np.abs(found.x.numpy() - expected).max() <= 0.5 + 1e-9
    assert (found.y.tolist(), found.classes, found.name) == ([0, 1], ("a", "b"), f"grey_rgb{size_px}")


def test_as_rgb_of_many_images_is_that_of_each(monkeypatch):
    monkeypatch.setattr("reprolib.data.images.CHUNK", 2)
    source = grey(5)
    whole = as_rgb(source, 32)
    assert all(torch.equal(whole.x[i : i + 1], as_rgb(pick(source, torch.tensor([i])), 32).x) for i in range(5))


def test_as_rgb_returns_images_that_fit_as_they_are():
    source = images(*toy(), ("a", "b"), "toy")
    assert as_rgb(source, 4) is source
    assert as_rgb(source, 8).name == "toy_rgb8"


def test_as_rgb_refuses_what_has_neither_one_nor_three_channels_and_no_size():
    with pytest.raises(BadInput, match=r"two: images have 2 channels, allowed are 1 .grey. and 3 .RGB."):
        as_rgb(images(torch.zeros(1, 2, 4, 4, dtype=torch.uint8), torch.zeros(1), ("a",), "two"), 4)
    with pytest.raises(BadInput, match="size_px=0 is not allowed"):
        as_rgb(grey(), 0)


@pytest.mark.parametrize("times", [1, 2, 3, 7])
def test_shrinking_takes_the_mean_of_equal_squares_halves_up(times):
    source = grey(3, 4 * times)
    expected = source.x.double().view(3, 1, 4, times, 4, times).mean(dim=(3, 5))
    found = shrink(source, 4)
    assert torch.equal(found.x, (expected + 0.5 + 1e-9).floor().to(torch.uint8))
    assert (found.y.tolist(), found.name) == ([0, 1, 0], "grey")


@pytest.mark.parametrize(("height", "width", "size_px"), [(28, 28, 32), (28, 28, 9), (28, 28, 0), (4, 8, 4)])
def test_shrinking_to_no_divisor_or_of_no_square_is_refused(height, width, size_px):
    source = images(torch.zeros(1, 3, height, width, dtype=torch.uint8), torch.zeros(1), ("a",), "odd")
    with pytest.raises(BadInput, match=f"odd: images of {width} x {height} px cannot be shrunk by area to size_px={size_px}"):
        shrink(source, size_px)


def test_picking_keeps_pixels_and_labels_together_and_hashes_anew():
    source = images(*toy(), ("a", "b"), "toy")
    found = pick(source, torch.tensor([1, 2]))
    assert torch.equal(found.x, source.x[[1, 2]])
    assert (found.y.tolist(), found.classes, found.name) == ([1, 0], ("a", "b"), "toy")
    assert found.sha256 == images(source.x[[1, 2]], source.y[[1, 2]], ("a", "b"), "toy").sha256 != source.sha256
