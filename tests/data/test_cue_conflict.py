"""Cue-conflict stimuli carry both categories; what conflicts, and what CIFAR-10 shares, is counted as published."""

from collections import Counter

import pytest
import torch

from reprolib.data import cue_conflict
from reprolib.data.cue_conflict import CATEGORIES, IN_CIFAR10, Stimuli
from reprolib.data.folders import FolderSet
from reprolib.data.images import images
from reprolib.errors import BadInput


@pytest.fixture
def stimuli(monkeypatch):
    """All 1,280 stimuli by name; the pixels of stimulus i say i."""

    def numbered(wanted, split="test", root=None):
        number = torch.arange(len(wanted.checksums()))
        x = torch.stack([number // 256, number % 256, number * 0], dim=1).to(torch.uint8)[:, :, None, None]
        y = torch.tensor([CATEGORIES.index(path.split("/")[0]) for path in wanted.checksums()])
        return images(x, y, CATEGORIES, wanted.name)

    monkeypatch.setattr(FolderSet, "load", numbered)
    return cue_conflict.load()


def numbers(stimuli: Stimuli) -> list[int]:
    x = stimuli.images.x[:, :, 0, 0].int()
    return (256 * x[:, 0] + x[:, 1]).tolist()


def test_every_category_is_80_times_a_shape_and_80_times_a_texture(stimuli):
    assert len(stimuli) == 1280
    assert Counter(stimuli.shape) == Counter(stimuli.texture) == dict.fromkeys(CATEGORIES, 80)


def test_names_say_shape_then_texture(stimuli):
    i = list(cue_conflict.STIMULI.checksums()).index("cat/cat10-oven2.jpg")
    assert (stimuli.shape[i], stimuli.texture[i]) == ("cat", "oven")
    assert [CATEGORIES[y] for y in stimuli.images.y] == list(stimuli.shape)


def test_80_stimuli_have_one_category_for_both_and_1200_conflict(stimuli):
    kept = cue_conflict.conflicts(stimuli)
    assert len(kept) == len(kept.shape) == len(kept.texture) == 1200
    assert not any(shape == texture for shape, texture in zip(kept.shape, kept.texture, strict=True))


def test_pixels_labels_and_names_stay_together(stimuli):
    kept = cue_conflict.conflicts(stimuli, IN_CIFAR10)
    for i, shape, texture, y in zip(numbers(kept), kept.shape, kept.texture, kept.images.y, strict=True):
        assert (stimuli.shape[i], stimuli.texture[i]) == (shape, texture)
        assert CATEGORIES[y] == shape


def test_210_stimuli_30_a_shape_conflict_within_the_classes_of_cifar10(stimuli):
    kept = cue_conflict.conflicts(stimuli, IN_CIFAR10)
    assert Counter(kept.shape) == dict.fromkeys(IN_CIFAR10, 30)
    assert set(kept.texture) == set(IN_CIFAR10)


def test_categories_in_cifar10_are_named_as_it_names_them():
    known = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}
    assert set(IN_CIFAR10) <= set(CATEGORIES)
    assert set(IN_CIFAR10.values()) < known


@pytest.mark.parametrize("wanted", [cue_conflict.EDGES, cue_conflict.SILHOUETTES])
def test_70_edges_and_70_silhouettes_are_of_those_classes(stimuli, wanted):
    kept = cue_conflict.of(wanted.load(), IN_CIFAR10)
    assert Counter(CATEGORIES[y] for y in kept.y) == dict.fromkeys(IN_CIFAR10, 10)
    assert kept.classes == CATEGORIES


def test_unknown_categories_are_refused_with_the_nearest(stimuli):
    with pytest.raises(BadInput, match="category 'ship' is unknown, allowed are airplane, bear, .*, truck"):
        cue_conflict.conflicts(stimuli, ["ship"])
    with pytest.raises(BadInput, match="did you mean 'airplane'"):
        cue_conflict.of(stimuli.images, ["aeroplane"])


def test_the_attribution_names_authors_source_and_licence():
    for part in ("Geirhos", "ICLR 2019", "rgeirhos/texture-vs-shape", "CC BY 4.0", "resized"):
        assert part in cue_conflict.ATTRIBUTION
