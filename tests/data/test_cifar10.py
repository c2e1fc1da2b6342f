"""CIFAR-10 is read only when every file is the official one; what is missing or broken is said in one sentence."""

import hashlib
import pickle
import urllib.error

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from reprolib import data, store
from reprolib.data import cifar10
from reprolib.errors import CorruptFile, MissingData, StorageError


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """An empty repository root and no `$REPROLIB_DATA`: nothing is found but what the test puts there."""
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path / "repository"))
    monkeypatch.delenv("REPROLIB_DATA", raising=False)
    return tmp_path


@pytest.fixture
def official(roots, monkeypatch):
    """A miniature CIFAR-10 of 25 + 5 images in the official layout, with its own md5s in the place of the official ones."""
    folder = roots / "repository" / "data" / "cifar10" / cifar10.FOLDER
    folder.mkdir(parents=True)
    contents = {"batches.meta": {"label_names": list("abcde")}}
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        # Image j of file `number` has the value 10 * number + j in red, 1 more in green, 2 more in blue.
        pixels = np.repeat(10 * number + np.arange(5)[:, None] + np.arange(3)[None, :], 1024, axis=1).astype(np.uint8)
        contents[name] = {"data": pixels, "labels": [4, 3, 2, 1, 0]}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
    md5 = {name: hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest() for name in contents}

    class Miniature(CIFAR10):
        train_list = [[name, md5[name]] for name in sorted(md5) if name.startswith("data")]
        test_list = [["test_batch", md5["test_batch"]]]
        meta = {"filename": "batches.meta", "key": "label_names", "md5": md5["batches.meta"]}

    for name, value in md5.items():
        monkeypatch.setitem(cifar10.MD5, name, value)
    monkeypatch.setattr("torchvision.datasets.CIFAR10", Miniature)
    return folder


def test_images_come_in_the_official_order_with_channels_first(official):
    train, test = data.load("cifar10", "train"), data.load("cifar10", "test")
    assert (train.x.shape, test.x.shape) == ((25, 3, 32, 32), (5, 3, 32, 32))
    assert train.x[7, :, 31, 0].tolist() == [12, 13, 14]
    assert test.x[:, 0, 0, 0].tolist() == [50, 51, 52, 53, 54]
    assert (train.y.tolist(), test.y.dtype) == ([4, 3, 2, 1, 0] * 5, torch.int64)
    assert test.classes == ("a", "b", "c", "d", "e")
    assert test.sha256 == hashlib.sha256(test.x.numpy().tobytes() + test.y.numpy().tobytes()).hexdigest()


def test_a_given_root_comes_before_the_environment_and_the_environment_before_data(official, roots, monkeypatch):
    assert cifar10.find() == official
    named = roots / "named" / cifar10.FOLDER
    named.mkdir(parents=True)
    monkeypatch.setenv("REPROLIB_DATA", str(roots / "named"))
    assert cifar10.find() == named
    given = roots / "given" / "cifar10" / cifar10.FOLDER
    given.mkdir(parents=True)
    assert cifar10.find(roots / "given") == given


def test_missing_set_is_one_sentence_with_place_and_scales(roots):
    with pytest.raises(MissingData) as caught:
        data.load("cifar10", "train")
    message = str(caught.value)
    assert str(store.root() / "data" / "cifar10") in message
    for part in (
        f"(looked into {store.root() / 'data'})",
        "REPROLIB_DATA",
        "reprolib data fetch cifar10",
        "the scales smoke and laptop work without it",
    ):
        assert part in message
    assert ". " not in message
    assert "\n" not in message


def test_truncated_file_is_refused_with_its_md5(official):
    path = official / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptFile, match=f"data_batch_3 has md5 .*expected {cifar10.MD5['data_batch_3']}.*reprolib data fetch"):
        data.load("cifar10", "test")


def test_missing_file_is_named(official):
    (official / "batches.meta").unlink()
    with pytest.raises(CorruptFile, match="batches.meta is missing while its folder is there"):
        data.load("cifar10", "train")


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the first line shows that the bomb works
def test_altered_file_is_never_unpickled(official, roots):
    evidence, bomb = roots / "evidence", pickle.dumps(Bomb(roots / "evidence"))
    pickle.loads(bomb)
    evidence.unlink()  # fails unless the bomb works
    (official / "test_batch").write_bytes(bomb)
    with pytest.raises(CorruptFile, match="altered, and was not opened"):
        data.load("cifar10", "test")
    assert not evidence.exists()


def test_fetch_returns_an_intact_copy_without_downloading(official, monkeypatch):
    monkeypatch.setattr(CIFAR10, "download", _fail(AssertionError("downloaded")))
    assert data.fetch("cifar10") == {**_row("cifar10"), "found": True, "where": str(official)}


def test_fetch_leaves_a_broken_copy_elsewhere_to_its_owner(official, roots, monkeypatch):
    (roots / "named").mkdir()
    official.rename(roots / "named" / cifar10.FOLDER)
    (roots / "named" / cifar10.FOLDER / "test_batch").write_bytes(b"")
    monkeypatch.setenv("REPROLIB_DATA", str(roots / "named"))
    with pytest.raises(CorruptFile, match="test_batch"):
        data.fetch("cifar10")


def test_fetch_mends_a_broken_copy_of_its_own(official, monkeypatch):
    path = official / "test_batch"
    whole = path.read_bytes()
    path.write_bytes(b"")
    archive = official.parent / CIFAR10.filename

    def download(self):
        archive.write_bytes(b"archive")
        path.write_bytes(whole)

    monkeypatch.setattr(CIFAR10, "download", download)
    assert data.fetch("cifar10")["found"]
    assert not archive.exists()
    assert len(data.load("cifar10", "test")) == 5


def _fail(error):
    def download(self):
        raise error

    return download


def _row(name):
    return next(row for row in data.status() if row["name"] == name)


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (urllib.error.URLError("no route"), MissingData, "could not be downloaded .*no route.*the scales smoke and laptop work without it"),
        (ConnectionResetError("reset"), MissingData, "could not be downloaded"),
        (RuntimeError("File not found or corrupted."), CorruptFile, f"not the official archive .expected md5 {CIFAR10.tgz_md5}"),
        (OSError(28, "No space left on device"), StorageError, "cannot write CIFAR-10 .*No space left"),
    ],
)
def test_fetch_says_what_went_wrong(roots, monkeypatch, raised, expected, message):
    monkeypatch.setattr(CIFAR10, "download", _fail(raised))
    with pytest.raises(expected, match=message):
        data.fetch("cifar10")


def test_md5s_are_the_published_ones():
    labels = {CIFAR10.meta["filename"]: CIFAR10.meta["md5"]}
    assert {**dict(CIFAR10.train_list), **dict(CIFAR10.test_list), **labels} == cifar10.MD5


def test_the_real_set_has_its_counts_and_its_normaliser():
    if cifar10.find() is None:
        pytest.skip("CIFAR-10 is not here: name its place in REPROLIB_DATA to run this test")
    train, test = data.load("cifar10", "train"), data.load("cifar10", "test")
    assert torch.bincount(train.y).tolist() == [5000] * 10
    assert torch.bincount(test.y).tolist() == [1000] * 10
    assert train.classes[:3] == ("airplane", "automobile", "bird")
    assert test.y[:5].tolist() == [3, 8, 8, 0, 6]
    mean, std = data.normaliser("cifar10")
    for channel in range(3):
        x = train.x[:, channel].double() / 255
        assert (float(x.mean()), float(x.std())) == pytest.approx((mean[channel], std[channel]), abs=1e-4)
