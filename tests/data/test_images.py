"""A labelled set is told by its pixels and labels, and refuses what is no set of images."""

import hashlib

import pytest
import torch

from reprolib.data.images import images


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
