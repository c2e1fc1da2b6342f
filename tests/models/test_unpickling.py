"""Pickles that carry code, classes or tricks: the tensors come out, nothing else happens."""

import io
import os
import pickle
import warnings

import numpy as np
import problems
import pytest
import releases
import torch

from reprolib.errors import CorruptFile
from reprolib.models.checkpoints import load_public
from reprolib.models.checkpoints.unpickling import Stub, Unread, _Unpickler, load

X = problems.images(2, 3, 32, 32)


class Runs:
    """Unpickled plainly, this calls `function(*arguments)`."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Arguments:
    """What robustness pickles beside the weights: an object with attributes of every kind."""

    def __init__(self) -> None:
        self.eps, self.names, self.table = 0.5, ["a", "b"], {"k": (1, 2)}


class Settings(dict):
    """A container of somebody's own, filled by the unpickler."""


class Items(list):
    """The same as a list."""


def checkpoint(**others):
    theirs = releases.oval()
    return theirs, {"model": theirs.state_dict(), **others}


def loads(path, theirs) -> None:
    """The file is refused by default, and its tensors are read when pickles are allowed."""
    with pytest.raises(CorruptFile, match=r"holds more than tensors \(.+\).* with allow_pickle=True such objects become inert stubs"):
        load_public(path)
    network = load_public(path, allow_pickle=True)
    mean, std = network.normaliser.mean.flatten().tolist(), network.normaliser.std.flatten().tolist()
    with torch.no_grad():
        torch.testing.assert_close(network(X), releases.normalised(theirs, X, tuple(mean), tuple(std)))


@pytest.mark.parametrize("is_zip", [True, False])
def test_objects_beside_the_weights_become_stubs(tmp_path, is_zip):
    theirs, content = checkpoint(args=Arguments(), settings=Settings(a=1, b=Settings()), items=Items([1, 2]), kind=Arguments)
    torch.save(content, tmp_path / "net.pt", _use_new_zipfile_serialization=is_zip)
    loads(tmp_path / "net.pt", theirs)


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("where", ["beside", "as a key's value", "around"])
def test_code_in_a_pickle_never_runs(tmp_path, is_zip, where):
    marker = tmp_path / "ran"
    for call in ((os.system, f"touch {marker}"), (exec, f"open({str(marker)!r}, 'w').close()"), (open, str(marker), "w")):
        theirs, content = checkpoint(evil=Runs(*call))
        if where == "as a key's value":
            content = {"model": content["model"], "epoch": {"deep": [Runs(*call)]}}
        elif where == "around":
            content = [content["model"], Runs(*call)]
        path = tmp_path / "net.pt"
        torch.save(content, path, _use_new_zipfile_serialization=is_zip)
        for allow_pickle in (False, True):
            try:
                load_public(path, allow_pickle=allow_pickle)
            except CorruptFile:
                assert where == "around" or not allow_pickle
        assert not marker.exists()
        if where != "around":
            loads(path, theirs)
        assert not marker.exists()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the file that `open` leaves open
            torch.load(path, weights_only=False)
        assert marker.exists(), "the trap was not armed"
        marker.unlink()


@pytest.mark.parametrize("value", [np.float64(0.25), np.int64(7), torch.float16, torch.device("cpu"), {1, 2}, bytearray(b"a"), 1j])
@pytest.mark.parametrize("is_zip", [True, False])
def test_plain_values_beside_the_weights_need_no_permission(tmp_path, value, is_zip):
    theirs, content = checkpoint(best_prec1=value)
    torch.save(content, tmp_path / "net.pt", _use_new_zipfile_serialization=is_zip)
    assert load_public(tmp_path / "net.pt").architecture == "oval"


def test_parameters_sizes_and_empty_ordered_dictionaries_are_read(tmp_path):
    theirs = releases.oval()
    state = dict(theirs.named_parameters())
    torch.save({"model": state, "shape": torch.Size([2, 3]), "hooks": type(theirs.state_dict())()}, tmp_path / "net.pt")
    found = load((tmp_path / "net.pt").read_bytes())[0]
    assert found["shape"] == (2, 3)
    assert all(torch.equal(found["model"][name], p) for name, p in state.items())


def restricted(program: bytes):
    return _Unpickler(io.BytesIO(program)).load()


def test_classes_that_dill_makes_on_the_way_become_stubs():
    # _create_type() gives a class, an instance of which is made, filled, and called
    made = restricted(b"\x80\x02cdill._dill\n_create_type\n)R)\x81}b)R.")
    assert isinstance(made, Stub)
    assert "dill._dill._create_type" in made.name


def test_a_pickle_cannot_set_attributes_of_what_it_is_given():
    plain = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x05\x00\x00\x00trickK\x01s\x86b."
    pickle.loads(plain)
    assert torch._utils._rebuild_tensor_v2.trick == 1, "the trap was not armed"
    del torch._utils._rebuild_tensor_v2.trick
    restricted(plain)
    assert not hasattr(torch._utils._rebuild_tensor_v2, "trick")


def test_a_pickle_cannot_reach_a_function_by_a_dotted_or_builtin_name():
    for name in (
        b"cbuiltins\ngetattr\n",
        b"cos\nsystem\n",
        b"ctorch\nload\n",
        b"cnumpy\nload\n",
        b"ctorch._utils\n_rebuild_tensor.__globals__\n",
    ):
        assert isinstance(restricted(b"\x80\x02" + name + b"."), Stub)


def test_torchscript_is_refused_as_code(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has deprecated TorchScript
        torch.jit.save(torch.jit.trace(releases.oval(), X), tmp_path / "net.pt")
    for allow_pickle in (False, True):
        with pytest.raises(CorruptFile, match="TorchScript"):
            load_public(tmp_path / "net.pt", allow_pickle=allow_pickle)
    with pytest.raises(Unread, match="it is a TorchScript archive, which is code"):
        load((tmp_path / "net.pt").read_bytes())
