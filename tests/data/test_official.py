"""CIFAR-10 and Fashion-MNIST are read only when every file is the official one; what is missing or broken is said in one sentence."""

import gzip
import hashlib
import io
import pickle
import shutil
import struct
import tarfile
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, FashionMNIST

from reprolib import data, store
from reprolib.data import cifar10, fashion_mnist
from reprolib.data.filesets import Published
from reprolib.errors import BadInput, CorruptFile, MissingData, StorageError


@dataclass(frozen=True)
class Set:
    """A set in miniature: its source and module, its folder below data/, what writes its files, who downloads it, and one of its files."""

    name: str
    title: str
    own: str
    source: Published
    module: ModuleType
    write: Callable[[Path], None]
    download: str
    file: str
    n_test: int


def write_cifar10(folder):
    """25 + 5 images: image j of file k has the value 10 k + j in red, 1 more in green, 2 more in blue."""
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcde")}))
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        pixels = np.repeat(10 * number + np.arange(5)[:, None] + np.arange(3)[None, :], 1024, axis=1).astype(np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [4, 3, 2, 1, 0]}))


def write_fashion_mnist(folder):
    """Five + three images of noise."""
    random = np.random.default_rng(0)
    for split, n in (("train", 5), ("t10k", 3)):
        pixels, labels = random.integers(0, 256, (n, 28, 28), dtype=np.uint8).tobytes(), bytes(9 - i for i in range(n))
        (folder / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(struct.pack(">4i", 0x803, n, 28, 28) + pixels))
        (folder / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">2i", 0x801, n) + labels))


CIFAR = Set(
    "cifar10", "CIFAR-10", "cifar10", cifar10.CIFAR10, cifar10, write_cifar10, "torchvision.datasets.CIFAR10.download", "test_batch", 5
)
FASHION = Set(
    "fashion_mnist", "Fashion-MNIST", "fashion-mnist", fashion_mnist.FASHION_MNIST, fashion_mnist, write_fashion_mnist,
    "torchvision.datasets.utils.download_url",
    "t10k-labels-idx1-ubyte.gz", 3,
)  # fmt: skip


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """An empty repository root and no `$REPROLIB_DATA`: nothing is found but what the test puts there."""
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path / "repository"))
    monkeypatch.delenv("REPROLIB_DATA", raising=False)
    return tmp_path


@pytest.fixture(params=[CIFAR, FASHION], ids=lambda a_set: a_set.name)
def each(request):
    return request.param


@pytest.fixture
def official(each, roots, monkeypatch):
    """The folder of a miniature in the official layout, with its own md5s in the place of the official ones."""
    folder = roots / "repository" / "data" / each.own / each.source.bare
    folder.mkdir(parents=True)
    each.write(folder)
    md5 = {path.name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for path in folder.iterdir()}
    for name, value in md5.items():
        monkeypatch.setitem(each.module.MD5, name, value)
    if each is CIFAR:  # torchvision checks once more

        class Miniature(CIFAR10):
            train_list = [[name, md5[name]] for name in sorted(md5) if name.startswith("data")]
            test_list = [["test_batch", md5["test_batch"]]]
            meta = {"filename": "batches.meta", "key": "label_names", "md5": md5["batches.meta"]}

        monkeypatch.setattr("torchvision.datasets.CIFAR10", Miniature)
    return folder


def failing(error):
    def download(*arguments, **named):
        raise error

    return download


@pytest.mark.parametrize("each", [CIFAR], indirect=True)
def test_images_come_in_the_official_order_with_channels_first(official):
    train, test = data.load("cifar10", "train"), data.load("cifar10", "test")
    assert (train.x.shape, test.x.shape) == ((25, 3, 32, 32), (5, 3, 32, 32))
    assert train.x[7, :, 31, 0].tolist() == [12, 13, 14]
    assert test.x[:, 0, 0, 0].tolist() == [50, 51, 52, 53, 54]
    assert (train.y.tolist(), test.y.dtype) == ([4, 3, 2, 1, 0] * 5, torch.int64)
    assert test.classes == ("a", "b", "c", "d", "e")
    assert test.sha256 == hashlib.sha256(test.x.numpy().tobytes() + test.y.numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("each", [FASHION], indirect=True)
@pytest.mark.parametrize("split", ["train", "test"])
def test_images_and_labels_are_those_torchvision_reads(official, split):
    for path in list(official.iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))  # torchvision reads the unpacked files
    expected = FashionMNIST(root=str(official.parents[1]), train=split == "train", download=False)
    read = data.load("fashion_mnist", split)
    assert torch.equal(read.x, expected.data[:, None])
    assert torch.equal(read.y, expected.targets)
    assert (len(read), read.name, read.classes[-1]) == ({"train": 5, "test": 3}[split], "fashion_mnist", "Ankle boot")


def test_loading_writes_nothing(each, official):
    before = sorted(official.parent.rglob("*"))
    data.load(each.name, "train")
    assert sorted(official.parent.rglob("*")) == before


def test_a_given_root_comes_before_the_environment_and_the_environment_before_data(each, official, roots, monkeypatch):
    assert each.source.find() == official
    named = roots / "named" / each.source.bare
    named.mkdir(parents=True)
    monkeypatch.setenv("REPROLIB_DATA", str(roots / "named"))
    assert each.source.find() == named
    given = roots / "given" / each.own / each.source.bare
    given.mkdir(parents=True)
    assert each.source.find(roots / "given") == given


def test_missing_set_is_one_sentence_with_place_and_scales(each, roots):
    with pytest.raises(MissingData) as caught:
        data.load(each.name, "train")
    message = str(caught.value)
    for part in (
        str(store.root() / "data" / each.own),
        f"(looked into {store.root() / 'data'})",
        "REPROLIB_DATA",
        f"reprolib data fetch {each.name}",
        "the scales smoke and laptop work without it",
    ):
        assert part in message
    assert ". " not in message
    assert "\n" not in message


def test_an_altered_file_is_refused_with_its_md5(each, official):
    path = official / each.file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptFile, match=f"{each.file} has md5 .*expected {each.module.MD5[each.file]}.*reprolib data fetch {each.name}"):
        data.load(each.name, "test")


def test_a_missing_file_is_named(each, official):
    (official / each.file).unlink()
    with pytest.raises(CorruptFile, match=f"{each.file} is missing while its folder is there"):
        data.load(each.name, "train")


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("each", [CIFAR], indirect=True)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the first line shows that the bomb works
def test_an_altered_file_is_never_unpickled(official, roots):
    evidence, bomb = roots / "evidence", pickle.dumps(Bomb(roots / "evidence"))
    pickle.loads(bomb)
    evidence.unlink()  # fails unless the bomb works
    (official / "test_batch").write_bytes(bomb)
    with pytest.raises(CorruptFile, match="altered, and was not opened"):
        data.load("cifar10", "test")
    assert not evidence.exists()


def test_fetch_returns_an_intact_copy_without_downloading(each, official, monkeypatch):
    monkeypatch.setattr(each.download, failing(AssertionError("downloaded")))
    status = next(row for row in data.status() if row["name"] == each.name)
    assert data.fetch(each.name) == {**status, "found": True, "where": str(official), "state": "exact copies"}


def test_fetch_leaves_a_broken_copy_elsewhere_to_its_owner(each, official, roots, monkeypatch):
    named = roots / "named" / each.source.bare
    named.parent.mkdir(parents=True)
    official.rename(named)
    (named / each.file).write_bytes(b"")
    monkeypatch.setenv("REPROLIB_DATA", str(roots / "named"))
    with pytest.raises(CorruptFile, match=each.file):
        data.fetch(each.name)


def test_fetch_mends_a_broken_copy_of_its_own(each, official, monkeypatch):
    whole = {path.name: path.read_bytes() for path in official.iterdir()}
    (official / each.file).write_bytes(b"")
    archive, asked = official.parent / CIFAR10.filename, []

    def download(*arguments, **named):
        asked.append((arguments, named))
        if each is CIFAR:
            archive.write_bytes(b"archive")
        for name, content in whole.items():
            (official / name).write_bytes(content)

    monkeypatch.setattr(each.download, download)
    assert data.fetch(each.name)["found"]
    assert not archive.exists()
    assert len(data.load(each.name, "test")) == each.n_test
    if each is FASHION:
        told = [dict(zip(("url", "root", "filename", "md5"), arguments, strict=False)) | named for arguments, named in asked]
        assert {one["url"] for one in told} == {fashion_mnist.SOURCE + name for name in whole}
        assert all(one["url"].startswith("https://") and one["md5"] == fashion_mnist.MD5[one["filename"]] for one in told)


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (urllib.error.URLError("no route"), MissingData, "could not be downloaded .*no route.*the scales smoke and laptop work without it"),
        (ConnectionResetError("reset"), MissingData, "could not be downloaded"),
        (
            RuntimeError("File not found or corrupted."),
            CorruptFile,
            r"^what came from https://\S+ is not the official {title} .*corrupted",
        ),
        (OSError(28, "No space left on device"), StorageError, "cannot write {title} .*: the disk is full"),
    ],
)
def test_fetch_says_what_went_wrong(each, roots, monkeypatch, raised, expected, message):
    monkeypatch.setattr(each.download, failing(raised))
    with pytest.raises(expected, match=message.replace("{title}", each.title)):
        data.fetch(each.name)


@pytest.mark.parametrize("each", [CIFAR], indirect=True)
def test_an_archive_at_hand_is_unpacked_checked_and_only_then_in_its_place(official, roots):
    whole = {path.name: path.read_bytes() for path in official.iterdir()}
    for damage, expected in ((b"", CorruptFile), (None, None)):
        shutil.rmtree(official, ignore_errors=True)
        with tarfile.open(roots / "cifar-10-python.tar.gz", "w:gz") as archive:
            for name, content in whole.items():
                header, held = (
                    tarfile.TarInfo(f"cifar-10-batches-py/{name}"),
                    damage if name == "test_batch" and damage is not None else content,
                )
                header.size = len(held)
                archive.addfile(header, io.BytesIO(held))
        if expected:
            with pytest.raises(expected, match=r"cifar-10-python\.tar\.gz, unpacked,/test_batch has md5"):
                data.fetch("cifar10", roots / "cifar-10-python.tar.gz")
            assert not any(path.is_file() for path in (roots / "repository" / "data").rglob("*batch*"))
        else:
            assert data.fetch("cifar10", roots / "cifar-10-python.tar.gz")["state"] == "exact copies"
            assert len(data.load("cifar10", "test")) == 5


def test_fashion_mnist_has_no_archive(roots):
    with pytest.raises(BadInput, match=r"--from x\.zip is no archive that Fashion-MNIST is published as: see https://"):
        data.fetch("fashion_mnist", "x.zip")


def test_md5s_are_the_published_ones():
    assert {**dict(CIFAR10.train_list), **dict(CIFAR10.test_list), CIFAR10.meta["filename"]: CIFAR10.meta["md5"]} == cifar10.MD5
    assert dict(FashionMNIST.resources) == fashion_mnist.MD5


@pytest.mark.parametrize(
    ("each", "first"), [(CIFAR, [3, 8, 8, 0, 6]), (FASHION, [9, 2, 1, 1, 6])], indirect=["each"], ids=["cifar10", "fashion_mnist"]
)
def test_the_real_set_has_its_counts_and_its_normaliser(each, first):
    if each.source.find() is None:
        pytest.skip(f"{each.title} is not here: name its place in REPROLIB_DATA to run this test")
    train, test = data.load(each.name, "train"), data.load(each.name, "test")
    assert torch.bincount(train.y).tolist() == [len(train) // 10] * 10
    assert torch.bincount(test.y).tolist() == [1000] * 10
    assert test.y[:5].tolist() == first
    level = torch.arange(256, dtype=torch.float64) / 255
    for channel, mean, std in zip(train.x.unbind(1), *data.normaliser(each.name), strict=True):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        assert (share @ level).item() == pytest.approx(mean, abs=1e-4)
        assert (share @ (level - mean) ** 2).sqrt().item() == pytest.approx(std, abs=1e-4)
