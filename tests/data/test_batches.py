"""Every epoch shows each image once; what is cropped and flipped depends on the generator alone."""

import problems
import pytest
import torch

from reprolib.data.batches import Batches


def numbered(n: int, side: int = 8):
    """(n, 3, side, side) uint8 noise and labels 0 to n - 1, so that a label names its image."""
    return torch.randint(0, 256, (n, 3, side, side), generator=problems.generator(), dtype=torch.uint8), torch.arange(n)


def epoch(batches: Batches, seed: int = 0):
    """All images and labels of one epoch."""
    images, labels = zip(*batches.epoch(problems.generator(seed)), strict=True)
    return torch.cat(images), torch.cat(labels)


def views(image, pad_px: int, flip: bool) -> dict[tuple[int, int, bool], torch.Tensor]:
    """Every crop of the zero-padded image, by explicit slicing, as it is and mirrored: (down, right, mirrored) -> (3, h, w)."""
    side = image.shape[-1]
    padded = torch.zeros(3, side + 2 * pad_px, side + 2 * pad_px)
    padded[:, pad_px : pad_px + side, pad_px : pad_px + side] = image.float() / 255
    places = [(i, j) for i in range(2 * pad_px + 1) for j in range(2 * pad_px + 1)]
    crops = {(i, j, False): padded[:, i : i + side, j : j + side] for i, j in places}
    return crops | {(i, j, True): crop.flip(-1) for (i, j, _), crop in crops.items() if flip}


def test_without_augmentation_each_image_appears_once_as_it_is():
    x, y = numbered(50)
    images, labels = epoch(Batches(x, y, 8))
    assert sorted(labels.tolist()) == y.tolist()
    assert labels.tolist() != y.tolist()
    assert torch.equal(images, x[labels].float() / 255)
    assert images.dtype == torch.float32


@pytest.mark.parametrize(("pad_px", "flip"), [(2, False), (0, True), (2, True)])
def test_every_augmented_image_is_a_crop_of_the_padded_image_maybe_mirrored_and_all_of_them_occur(pad_px, flip):
    x, y = numbered(400)
    images, labels = epoch(Batches(x, y, 64, pad_px, flip))
    assert sorted(labels.tolist()) == y.tolist()
    seen = []
    for image, label in zip(images, labels.tolist(), strict=True):
        matching = [place for place, view in views(x[label], pad_px, flip).items() if torch.equal(image, view)]
        assert len(matching) == 1
        seen += matching
    assert set(seen) == set(views(x[0], pad_px, flip))
    share = sum(mirrored for _, _, mirrored in seen) / len(seen)
    assert share == 0 if not flip else 0.4 < share < 0.6
    downs, rights = [[place[axis] for place in seen] for axis in (0, 1)]
    assert downs != rights or not pad_px


def test_a_mirrored_image_is_the_image_mirrored_left_to_right():
    x, y = numbered(2)
    for image, label in zip(*epoch(Batches(x, y, 2, flip=True), seed=1), strict=True):
        assert torch.equal(image, x[label] / 255) or torch.equal(image, x[label].flip(-1) / 255)
        assert not torch.equal(image, x[label].flip(-2) / 255)


@pytest.mark.parametrize(("pad_px", "flip"), [(0, False), (2, True)])
def test_what_is_drawn_depends_on_the_generator_alone(pad_px, flip):
    x, y = numbered(40)
    state = torch.get_rng_state()
    first = epoch(Batches(x, y, 8, pad_px, flip))
    torch.rand(100)
    batches = Batches(x, y, 8, pad_px, flip)
    epoch(batches, seed=5)
    for one, other in zip(first, epoch(batches), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(first[1], epoch(batches, seed=1)[1])
    torch.set_rng_state(state)
    epoch(batches)
    assert torch.equal(torch.get_rng_state(), state)


def test_both_arms_see_the_same_images_whatever_the_attack_draws_in_between():
    x, y = numbered(40)
    attack, robust = problems.generator(99), []
    for images, labels in Batches(x, y, 8, 2, True).epoch(problems.generator()):
        robust.append((images.clone(), labels))
        images.add_(torch.rand(images.shape, generator=attack))  # the attacked copy is the arm's own
        torch.rand(7)
    for (images, labels), (wanted, their_labels) in zip(Batches(x, y, 8, 2, True).epoch(problems.generator()), robust, strict=True):
        assert torch.equal(images, wanted)
        assert torch.equal(labels, their_labels)


def test_an_epoch_leaves_the_data_as_it_was():
    x, y = numbered(20)
    before = x.clone()
    for pad_px, flip in ((0, False), (2, True)):
        for images, _ in Batches(x, y, 8, pad_px, flip).epoch(problems.generator()):
            images.zero_()
    assert torch.equal(x, before)


@pytest.mark.parametrize(("n", "sizes"), [(16, [8, 8]), (17, [8, 8]), (18, [8, 8, 2]), (7, [7]), (1, [])])
def test_the_last_batch_may_be_smaller_but_never_a_single_image(n, sizes):
    x, y = numbered(n)
    batches = Batches(x, y, 8)
    assert [len(labels) for _, labels in batches.epoch(problems.generator())] == sizes
    assert len(batches) == len(sizes)


def test_the_image_left_out_changes_from_epoch_to_epoch():
    x, y = numbered(17)
    missing = {(set(range(17)) - set(epoch(Batches(x, y, 8), seed)[1].tolist())).pop() for seed in range(20)}
    assert len(missing) > 5


def test_augmented_images_lie_in_memory_channels_last():
    x, y = numbered(16)
    for images, _ in Batches(x, y, 8, 2, True).epoch(problems.generator()):
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert images.shape == (8, 3, 8, 8)
