"""Class folders of image files are read in a known order, and only files whose sha256 is known are decoded."""

import dataclasses
import hashlib
import io

import numpy as np
import pytest
import torch
from PIL import Image

from reprolib import data, store
from reprolib.data import cue_conflict, folders
from reprolib.errors import BadInput, CorruptFile, MissingData

TOY = folders.FolderSet("toy", "the toy set (resized to 2 px)", "toy-set/val", classes={"n2": "bee", "n1": "ant"}, size_px=2)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Three 4 px PNGs (one grey) in two class folders below `$REPROLIB_DATA`, and the list of their sha256s."""
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path / "repository"))
    monkeypatch.setenv("REPROLIB_DATA", str(tmp_path / "named"))
    monkeypatch.setattr(folders, "CHECKSUMS", tmp_path)
    random = np.random.default_rng(0)
    pictures = {
        "n1/b.png": random.integers(0, 256, (4, 4, 3), dtype=np.uint8),
        "n1/a.png": random.integers(0, 256, (4, 4), dtype=np.uint8),
        "n2/c.png": random.integers(0, 256, (4, 4, 3), dtype=np.uint8),
    }
    folder, lines = tmp_path / "named" / TOY.folder, []
    for path, pixels in pictures.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / path)
        lines.append(f"{hashlib.sha256((folder / path).read_bytes()).hexdigest()}  {path}")
    (tmp_path / "toy.sha256").write_text("\n".join(lines) + "\n")
    return folder, pictures


def test_images_come_in_the_listed_order_labelled_by_their_folder(toy):
    _, pictures = toy
    found = dataclasses.replace(TOY, size_px=None).load()
    for image, pixels in zip(found.x, pictures.values(), strict=True):
        rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
        assert np.array_equal(image.permute(1, 2, 0).numpy(), rgb)
    assert (found.y.tolist(), found.classes, found.name) == ([1, 1, 0], ("bee", "ant"), "toy")


def test_images_are_shrunk_by_area(toy):
    _, pictures = toy
    cells = pictures["n2/c.png"].astype(float).reshape(2, 2, 2, 2, 3).mean(axis=(1, 3))
    found = TOY.load().x[2].permute(1, 2, 0).numpy()
    assert found.shape == (2, 2, 3)
    assert np.array_equal(found, np.floor(cells + 0.5))


def test_jpeg_files_are_decoded_too(toy, tmp_path):
    folder, _ = toy
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 100, 50)).save(buffer, "JPEG", quality=95, subsampling=0)
    (folder / "n1" / "d.JPEG").write_bytes(buffer.getvalue())
    (tmp_path / "toy.sha256").write_text(f"{hashlib.sha256(buffer.getvalue()).hexdigest()}  n1/d.JPEG\n")
    found = TOY.load().x[0].float()
    assert (found - torch.tensor([200.0, 100.0, 50.0]).view(3, 1, 1)).abs().max() <= 3


def test_files_that_are_not_listed_are_ignored(toy):
    folder, _ = toy
    before = TOY.load().sha256
    (folder / "n1" / "Thumbs.db").write_bytes(b"not an image")
    (folder / "n3").mkdir()
    assert TOY.load().sha256 == before


def test_a_given_root_comes_before_the_environment_and_the_environment_before_data(toy, tmp_path):
    own, given = store.root() / "data" / TOY.folder, tmp_path / "given" / TOY.folder
    for folder in (own, given):
        folder.mkdir(parents=True)
    assert TOY.places(tmp_path / "given") == [given, toy[0], own]
    assert (TOY.find(), TOY.find(tmp_path / "given")) == (toy[0], given)


@pytest.mark.parametrize("function", [TOY.load, TOY.fetch])
def test_missing_set_is_one_sentence_with_place_list_and_scales(toy, monkeypatch, function):
    monkeypatch.delenv("REPROLIB_DATA")
    with pytest.raises(MissingData) as caught:
        function()
    message = str(caught.value)
    assert message.startswith(
        "The toy set (resized to 2 px) is not here: put the files that reprolib/data/checksums/toy.sha256 lists into "
    )
    for part in (str(store.root() / "data" / TOY.folder), "REPROLIB_DATA", "the scales smoke and laptop work without it"):
        assert part in message
    assert ". " not in message
    assert "\n" not in message


@pytest.mark.parametrize("function", [TOY.load, TOY.fetch])
def test_altered_file_is_refused_with_its_sha256_and_not_decoded(toy, monkeypatch, function):
    folder, _ = toy
    path = folder / "n1" / "b.png"
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr(folders, "_decoded", lambda content: pytest.fail("decoded"))
    expected = TOY.checksums()["n1/b.png"]
    with pytest.raises(CorruptFile, match=rf"b\.png has sha256 .*expected {expected}: .*altered.*put the original file there again"):
        function()


def test_missing_file_is_named(toy):
    (toy[0] / "n2" / "c.png").unlink()
    with pytest.raises(CorruptFile, match=r"c\.png is missing while its folder is there .*: put the original file there again"):
        TOY.load()


def test_fetch_returns_the_folder_of_an_intact_set(toy):
    assert TOY.fetch() == toy[0]


def test_fingerprint_changes_with_a_file_and_with_the_size(toy, tmp_path):
    before = TOY.fingerprint()
    assert dataclasses.replace(TOY, size_px=4).fingerprint() != before
    (tmp_path / "toy.sha256").write_text((tmp_path / "toy.sha256").read_text().replace("a.png", "z.png"))
    assert TOY.fingerprint() != before


SHIPPED = [folders.TINY_IMAGENET_20, folders.TEXTURES, cue_conflict.STIMULI, cue_conflict.EDGES, cue_conflict.SILHOUETTES]
PER_CLASS = {"tiny_imagenet_20": 50, "textures": 40, "cue_conflict": 80, "edges": 10, "silhouettes": 10}


@pytest.mark.parametrize("wanted", SHIPPED, ids=lambda wanted: wanted.name)
def test_lists_of_checksums_hold_every_class_equally_and_in_order(wanted):
    listed = wanted.checksums()
    assert all(len(digest) == 64 and int(digest, 16) for digest in listed.values())
    assert len(set(listed.values())) == len(listed)
    in_folder = [path.split("/")[0] for path in listed]
    assert in_folder == [folder for folder in wanted.classes for _ in range(PER_CLASS[wanted.name])]


@pytest.mark.parametrize("wanted", SHIPPED, ids=lambda wanted: wanted.name)
def test_the_real_sets_have_their_counts_and_sizes(wanted):
    if wanted.find() is None:
        pytest.skip(f"{wanted.folder} is not here: name the folder that holds it in REPROLIB_DATA to run this test")
    found = data.load(wanted.name, "test")
    side = {"cue_conflict": 96, "edges": 224, "silhouettes": 224}.get(wanted.name, 32)
    assert found.x.shape == (len(wanted.classes) * PER_CLASS[wanted.name], 3, side, side)
    assert torch.bincount(found.y).tolist() == [PER_CLASS[wanted.name]] * len(wanted.classes)
    assert found.x.float().flatten(1).std(dim=1).min() > 1  # none is blank


@pytest.mark.parametrize("wanted", SHIPPED, ids=lambda wanted: wanted.name)
def test_no_set_of_folders_has_a_training_split(wanted):
    with pytest.raises(BadInput, match=f"split='train' is unknown for {wanted.name}, allowed are test$"):
        data.load(wanted.name, "train")
