"""Data sets by name: what is known without reading them, and what is said about names that do not exist."""

import re

import pytest
import torch

from reprolib import data, store
from reprolib.data import factorial, shapetexture
from reprolib.errors import BadInput


@pytest.fixture
def empty_root(tmp_path, monkeypatch):
    """A repository root with no data, and no `$REPROLIB_DATA`."""
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    monkeypatch.delenv("REPROLIB_DATA", raising=False)
    return tmp_path


OTHER_IMAGES = ("tiny_imagenet_20", "textures", "cue_conflict", "edges", "silhouettes")  # read from folders, never trained on
TRAINED_ON = tuple(name for name in data.NAMES if name not in OTHER_IMAGES)


@pytest.mark.parametrize("name", data.NAMES)
def test_fingerprint_needs_no_data(name, empty_root):
    assert re.fullmatch("[0-9a-f]{64}", data.fingerprint(name))
    assert not list(empty_root.iterdir())


@pytest.mark.parametrize("name", TRAINED_ON)
def test_normaliser_has_a_number_per_channel_and_needs_no_data(name, empty_root):
    mean, std = data.normaliser(name)
    assert len(mean) == len(std) == (1 if name == "fashion_mnist" else 3)
    assert all(0 < value < 1 for value in (*mean, *std))
    assert not list(empty_root.iterdir())


@pytest.mark.parametrize("name", OTHER_IMAGES)
def test_a_set_without_a_training_split_has_no_normaliser(name):
    with pytest.raises(
        BadInput, match=f"data set '{name}' has no training split, hence no normaliser; allowed are {', '.join(TRAINED_ON)}$"
    ):
        data.normaliser(name)


GENERATED = {*shapetexture.WORLDS, *factorial.SETS}


def test_every_world_of_shapetexture_is_a_data_set():
    assert set(data.NAMES) >= GENERATED


def test_fingerprints_tell_sets_apart():
    assert len({data.fingerprint(name) for name in data.NAMES}) == len(data.NAMES)


def test_fingerprint_changes_with_the_generator_and_with_its_settings(monkeypatch):
    before = data.fingerprint("shapetexture")
    monkeypatch.setattr(shapetexture, "VERSION", shapetexture.VERSION + 1)
    assert data.fingerprint("shapetexture") != before
    monkeypatch.undo()
    monkeypatch.setitem(shapetexture.WORLDS, "shapetexture", (shapetexture.World(c=0.16), {"train": 16_000, "test": 2_000}))
    assert data.fingerprint("shapetexture") != before


def test_smoke_set_has_four_gratings_of_16_px():
    train, test = data.load("shapetexture_gratings", "train"), data.load("shapetexture_gratings", "test")
    assert train.x.shape == (600, 3, 16, 16)
    assert test.x.shape == (200, 3, 16, 16)
    assert train.classes == ("disc+grating_0", "square+grating_45", "triangle+grating_90", "star+grating_135")
    assert torch.bincount(train.y).tolist() == [150] * 4
    assert train.sha256 != test.sha256
    training = {image.numpy().tobytes() for image in train.x}
    assert not any(image.numpy().tobytes() in training for image in test.x)


def test_a_generated_set_is_rendered_once_and_then_read_from_the_cache(empty_root, monkeypatch):
    first = data.load("shapetexture_gratings", "test")
    monkeypatch.setattr(shapetexture, "render", None)  # a second rendering would fail
    second = data.load("shapetexture_gratings", "test")
    assert second.sha256 == first.sha256
    assert torch.equal(second.x, first.x)


def test_status_says_what_is_found_and_how_to_get_the_rest(empty_root):
    rows = {row["name"]: row for row in data.status()}
    assert tuple(rows) == data.NAMES
    assert {name for name, row in rows.items() if row["found"]} == GENERATED
    for name in set(data.NAMES) - GENERATED:
        assert rows[name]["where"] is None
        assert "REPROLIB_DATA" in rows[name]["how"]
        assert rows[name]["how"].startswith(f"`reprolib data fetch {name}`, or put ")
    assert (rows["cifar10"]["scales"], rows["shapetexture"]["scales"]) == (("cifar", "gpu"), ("laptop",))
    (store.root() / "data" / "cifar10" / "cifar-10-batches-py").mkdir(parents=True)
    (store.root() / "data" / "dtd-subset-96").mkdir()
    rows = {row["name"]: row for row in data.status()}
    assert {name for name, row in rows.items() if row["found"]} == {"cifar10", "textures", *GENERATED}
    assert rows["textures"]["where"] == str(store.root() / "data" / "dtd-subset-96")


@pytest.mark.parametrize("place", ["cifar-10-batches-py", "sets/cifar10/cifar-10-batches-py"])
def test_a_root_that_is_the_sets_own_folder_is_taken_for_it(empty_root, monkeypatch, place):
    (empty_root / place).mkdir(parents=True)
    monkeypatch.setenv("REPROLIB_DATA", place)
    (where,) = (row["where"] for row in data.status() if row["name"] == "cifar10")
    assert where == str(empty_root / place)


def test_fetching_a_generated_set_does_nothing(empty_root):
    assert data.fetch("shapetexture")["found"]
    assert not list(empty_root.iterdir())


@pytest.mark.parametrize("function", [lambda name: data.load(name, "train"), data.fingerprint, data.normaliser, data.fetch])
def test_unknown_names_are_refused_with_the_nearest(function):
    allowed = ", ".join(data.NAMES)
    with pytest.raises(BadInput, match=f"data set 'cifar-10' is unknown, allowed are {allowed}; did you mean 'cifar10'?"):
        function("cifar-10")


def test_unknown_splits_are_refused_with_the_nearest():
    with pytest.raises(BadInput, match="split='tests' is unknown for shapetexture, allowed are train, test; did you mean 'test'?"):
        data.load("shapetexture", "tests")
