"""Class folders of image files are read in a known order; what is no known copy is recognised by its pixels, or refused."""

import base64
import dataclasses
import hashlib
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from reprolib import data, store
from reprolib.data import cue_conflict, folders
from reprolib.data.images import pick
from reprolib.errors import BadInput, CorruptFile, MissingData

TOY = folders.FolderSet(
    "toy", "the toy set (resized to 2 px)", "toy-set/val", "https://toys.example/toys.zip", "1 kB", "none", "play",
    classes={"n2": "bee", "n1": "ant"}, size_px=2,
)  # fmt: skip


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
    known = [folders.numbers(np.asarray(Image.fromarray(pixels).convert("RGB"))) for pixels in pictures.values()]
    written = base64.b64encode(np.rint(known).astype(np.uint8).tobytes()).decode()
    (tmp_path / "toy.json").write_text(json.dumps({"side_px": 4, "numbers": written}))
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


def test_missing_set_is_one_sentence_with_command_place_list_and_scales(toy, monkeypatch):
    monkeypatch.delenv("REPROLIB_DATA")
    with pytest.raises(MissingData) as caught:
        TOY.load()
    message = str(caught.value)
    assert message.startswith(
        "The toy set (resized to 2 px) is not here: `reprolib data fetch toy`, or put the files that reprolib/data/checksums/toy.sha256 lists into "
    )
    for part in (str(store.root() / "data" / TOY.folder), "REPROLIB_DATA", "the scales smoke and laptop work without it"):
        assert part in message
    assert ". " not in message
    assert "\n" not in message


def as_jpeg(path, pixels, quality=95):
    """Another file of the same name, as another program would write it."""
    Image.fromarray(pixels).save(path, "JPEG", quality=quality, subsampling=0)


def test_other_copies_of_the_same_pictures_are_recognised_and_say_so(toy):
    folder, pictures = toy
    exact = TOY.load()
    assert (exact.name, TOY.check(folder)) == ("toy", "exact copies")
    as_jpeg(folder / "n1" / "b.png", pictures["n1/b.png"], quality=100)
    found = TOY.load()
    assert found.name == pick(found, torch.tensor([0])).name == "toy_recognised"
    assert (found.x.int() - exact.x.int()).abs().max() <= 6
    assert found.sha256 != exact.sha256
    assert re.fullmatch(r"recognised: 1 of 3 files are other copies, by at most \d\.\d of 255 levels", TOY.check(folder))


@pytest.mark.parametrize("change", ["turned", "blurred", "swapped"])
def test_other_pictures_are_counted_and_the_worst_named(toy, change):
    folder, pictures = toy
    pixels = pictures["n1/b.png"]
    other = {"turned": pixels[::-1], "blurred": np.full_like(pixels, pixels.mean()), "swapped": pictures["n2/c.png"]}[change]
    Image.fromarray(other).save(folder / "n1" / "b.png")
    with pytest.raises(
        CorruptFile, match=rf"^{folder}: 1 of 3 files are not the pictures of toy, the worst, n1/b.png, by [0-9.]+ of 255 levels of grey where "
        r"5 are allowed: move it away and run `reprolib data fetch toy`$"
    ):  # fmt: skip
        TOY.load()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), r"lacks 1 of the 3 files of toy, such as n2/c\.png: move it away and run `reprolib data fetch toy`$"),
        (lambda path: path.write_bytes(path.read_bytes()[:50]), r"n2/c\.png cannot be read as a picture \(.+\): it is damaged"),
        (lambda path: path.write_bytes(b"GIF89a"), r"n2/c\.png cannot be read as a picture"),
        (lambda path: Image.new("RGB", (8, 4)).save(path), r"n2/c\.png has 8 x 4 px, not 4 x 4"),
        (lambda path: Image.new("1", (5000, 5000)).save(path), r"n2/c\.png cannot be read .*it claims 5000 x 5000 px"),
    ],
)
def test_what_is_missing_cut_off_or_of_another_size_is_named(toy, damage, message):
    damage(toy[0] / "n2" / "c.png")
    with pytest.raises(CorruptFile, match=message):
        TOY.load()


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
    side_px, known = wanted.known()
    assert (side_px % 4, known.shape) == (0, (len(listed), 17))
    assert len(set(wanted.members())) == len(listed)


@pytest.mark.parametrize("wanted", SHIPPED, ids=lambda wanted: wanted.name)
def test_the_real_sets_have_their_counts_and_sizes(wanted):
    if wanted.find() is None:
        pytest.skip(f"{wanted.folder} is not here: name the folder that holds it in REPROLIB_DATA to run this test")
    found = data.load(wanted.name, "test")
    side = {"cue_conflict": 96, "edges": 224, "silhouettes": 224}.get(wanted.name, 32)
    assert found.x.shape == (len(wanted.classes) * PER_CLASS[wanted.name], 3, side, side)
    assert torch.bincount(found.y).tolist() == [PER_CLASS[wanted.name]] * len(wanted.classes)
    assert found.x.float().flatten(1).std(dim=1).min() > 1  # none is blank
    assert wanted.check(wanted.find()) == "exact copies"
    path = list(wanted.checksums())[7]
    x = np.asarray(folders.picture((wanted.find() / path).read_bytes(), path))
    assert np.abs(folders.numbers(x) - wanted.known()[1][7]).max() < 1  # another decoder may differ by a little more than rounding


@pytest.mark.parametrize("wanted", SHIPPED, ids=lambda wanted: wanted.name)
def test_no_set_of_folders_has_a_training_split(wanted):
    with pytest.raises(BadInput, match=f"split='train' is unknown for {wanted.name}, allowed are test$"):
        data.load(wanted.name, "train")
