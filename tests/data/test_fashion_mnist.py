"""Fashion-MNIST is read only when its files are the official ones; what is missing or broken is said in one sentence."""

import gzip
import hashlib
import struct
import urllib.error

import numpy as np
import pytest
import torch
from torchvision.datasets import FashionMNIST

from reprolib import data, store
from reprolib.data import fashion_mnist
from reprolib.errors import CorruptFile, MissingData, StorageError

N = {"train": 5, "t10k": 3}


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """An empty repository root and no `$REPROLIB_DATA`: nothing is found but what the test puts there."""
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path / "repository"))
    monkeypatch.delenv("REPROLIB_DATA", raising=False)
    return tmp_path


@pytest.fixture
def official(roots, monkeypatch):
    """Five + three random images in the official layout and format, with their md5s in the place of the official ones."""
    folder = roots / "repository" / "data" / "fashion-mnist" / fashion_mnist.FOLDER
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for split, n in N.items():
        pixels = random.integers(0, 256, (n, 28, 28), dtype=np.uint8).tobytes()
        (folder / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(struct.pack(">4i", 0x803, n, 28, 28) + pixels))
        labels = bytes(9 - i for i in range(n))
        (folder / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">2i", 0x801, n) + labels))
    md5 = {path.name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for path in folder.iterdir()}
    for name, value in md5.items():
        monkeypatch.setitem(fashion_mnist.MD5, name, value)
    return folder


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_and_labels_are_those_torchvision_reads(official, split):
    for path in list(official.iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))  # torchvision reads the unpacked files
    expected = FashionMNIST(root=str(official.parents[1]), train=split == "train", download=False)
    found = data.load("fashion_mnist", split)
    assert torch.equal(found.x, expected.data[:, None])
    assert torch.equal(found.y, expected.targets)
    assert (len(found), found.name, found.classes[-1]) == ({"train": 5, "test": 3}[split], "fashion_mnist", "Ankle boot")


def test_loading_writes_nothing(official):
    before = sorted(official.parent.rglob("*"))
    data.load("fashion_mnist", "train")
    assert sorted(official.parent.rglob("*")) == before


def test_a_given_root_comes_before_the_environment_and_the_environment_before_data(official, roots, monkeypatch):
    assert fashion_mnist.find() == official
    named = roots / "named" / fashion_mnist.FOLDER
    named.mkdir(parents=True)
    monkeypatch.setenv("REPROLIB_DATA", str(roots / "named"))
    assert fashion_mnist.find() == named
    given = roots / "given" / "fashion-mnist" / fashion_mnist.FOLDER
    given.mkdir(parents=True)
    assert fashion_mnist.find(roots / "given") == given


def test_missing_set_is_one_sentence_with_place_and_scales(roots):
    with pytest.raises(MissingData) as caught:
        data.load("fashion_mnist", "train")
    message = str(caught.value)
    assert str(store.root() / "data" / "fashion-mnist") in message
    for part in ("REPROLIB_DATA", "reprolib data fetch fashion_mnist", "the scales smoke and laptop work without it"):
        assert part in message
    assert ". " not in message
    assert "\n" not in message


def test_altered_file_is_refused_with_its_md5(official):
    path = official / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(struct.pack(">2i", 0x801, 3) + bytes([0, 0, 0])))
    with pytest.raises(CorruptFile, match=f"{path.name} has md5 .*expected {fashion_mnist.MD5[path.name]}.*data fetch fashion_mnist"):
        data.load("fashion_mnist", "test")


def test_missing_file_is_named(official):
    (official / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(CorruptFile, match=r"train-images-idx3-ubyte\.gz is missing while its folder is there"):
        data.load("fashion_mnist", "train")


def test_fetch_returns_an_intact_copy_without_downloading(official, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.utils.download_url", _fail(AssertionError("downloaded")))
    row = data.fetch("fashion_mnist")
    assert (row["found"], row["where"]) == (True, str(official))


def test_fetch_leaves_a_broken_copy_elsewhere_to_its_owner(official, roots, monkeypatch):
    named = roots / "named" / fashion_mnist.FOLDER
    named.parent.mkdir(parents=True)
    official.rename(named)
    (named / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
    monkeypatch.setenv("REPROLIB_DATA", str(roots / "named"))
    with pytest.raises(CorruptFile, match="t10k-labels"):
        data.fetch("fashion_mnist")


def test_fetch_mends_a_broken_copy_of_its_own(official, monkeypatch):
    whole = {path.name: path.read_bytes() for path in official.iterdir()}
    (official / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
    asked = []

    def download(url, root, filename, md5):
        asked.append(url)
        assert (root, md5) == (str(official), fashion_mnist.MD5[filename])
        (official / filename).write_bytes(whole[filename])

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    assert data.fetch("fashion_mnist")["found"]
    assert sorted(asked) == sorted(fashion_mnist.SOURCE + name for name in whole)
    assert all(url.startswith("https://") for url in asked)
    assert len(data.load("fashion_mnist", "test")) == 3


def _fail(error):
    def download(*args, **kwargs):
        raise error

    return download


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (urllib.error.URLError("no route"), MissingData, "could not be downloaded .*no route.*the scales smoke and laptop work without it"),
        (ConnectionResetError("reset"), MissingData, "could not be downloaded"),
        (RuntimeError("File not found or corrupted."), CorruptFile, r"is not the official file .expected md5 [0-9a-f]{32}"),
        (OSError(28, "No space left on device"), StorageError, "cannot write Fashion-MNIST .*No space left"),
    ],
)
def test_fetch_says_what_went_wrong(roots, monkeypatch, raised, expected, message):
    monkeypatch.setattr("torchvision.datasets.utils.download_url", _fail(raised))
    with pytest.raises(expected, match=message):
        data.fetch("fashion_mnist")


def test_md5s_are_the_published_ones():
    assert fashion_mnist.MD5 == {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    }


def test_the_real_set_has_its_counts_and_its_normaliser():
    if fashion_mnist.find() is None:
        pytest.skip("Fashion-MNIST is not here: name its place in REPROLIB_DATA to run this test")
    train, test = data.load("fashion_mnist", "train"), data.load("fashion_mnist", "test")
    assert (train.x.shape, test.x.shape) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))
    assert torch.bincount(train.y).tolist() == [6000] * 10
    assert torch.bincount(test.y).tolist() == [1000] * 10
    assert (train.y[:5].tolist(), test.y[:5].tolist()) == ([9, 0, 0, 3, 0], [9, 2, 1, 1, 6])
    x = train.x.double() / 255
    assert ((float(x.mean()),), (float(x.std()),)) == tuple(pytest.approx(part, abs=1e-4) for part in data.normaliser("fashion_mnist"))
