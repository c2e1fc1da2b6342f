"""Files that mean harm, or are damaged: no code in them runs, nothing is made that is larger than they are, and one sentence says why not."""

import contextlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from pathlib import Path

import pytest
import releases
import torch

import reprolib
from reprolib.errors import ReprolibError
from reprolib.models.checkpoints import load_public

RAN = "ran-by-a-checkpoint"  # the file that every call in here would make, in the folder where it runs
TOUCH, MAKE = f"touch {RAN}", f"open({RAN!r}, 'w')"
MAGIC, STATE = 0x1950A86A20F9469CFC6C, releases.oval().state_dict()


def bare(value) -> bytes:
    """The pickle of a value without its first and last instruction."""
    return pickle.dumps(value, 2)[2:-1]


def called(function: str, *arguments) -> bytes:
    module, _, name = function.rpartition(".")
    return f"c{module}\n{name}\n".encode() + bare(arguments) + b"R"


def zipped(program: bytes, records=(), top="archive", packing=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, content in ((f"{top}/data.pkl", b"\x80\x02" + program + b"."), (f"{top}/version", b"3\n"), *records):
            archive.writestr(name, content)
    return file.getvalue()


def before_zip(program: bytes, rest: bytes = b"") -> bytes:
    return b"".join(pickle.dumps(one, 2) for one in (MAGIC, 1001, {"little_endian": True})) + b"\x80\x02" + program + b"." + rest


def tensor(n: int, size, stride, kind="FloatStorage", rebuild="torch._utils._rebuild_tensor_v2") -> bytes:
    """A tensor on the storage "0" of n numbers."""
    module, _, name = rebuild.rpartition(".")
    storage = b"(" + bare("storage") + f"ctorch\n{kind}\n".encode() + bare("0") + bare("cpu") + bare(n) + b"tQ"
    return f"c{module}\n{name}\n(".encode() + storage + bare(0) + bare(size) + bare(stride) + b"\x89N" + b"tR"


def of(program: bytes, name: str = "0.weight", n: int = 16) -> bytes:
    return zipped(b"}" + bare(name) + program + b"s", [("archive/data/0", bytes(4 * n))])


def saved(content, **options) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def changed(name: str = "7.bias", value=None, **others) -> bytes:
    return saved(STATE | {name: STATE["7.bias"] if value is None else value} | others)


def safetensors(header: bytes, claimed: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if claimed is None else claimed) + header + bytes(16)


CALLS = [
    called(f, TOUCH) for f in ("os.system", "posix.system", "os.popen", "subprocess.getoutput", "commands.getoutput", "pty.spawn", "nt.system")
] + [
    called(f, MAKE) for f in (
        "builtins.eval", "__builtin__.eval", "builtins.exec", "timeit.timeit", "cProfile.run", "pdb.run", "code.interact", "runpy._run_code",
        "numpy.testing._private.utils.runstring", "torch.jit.unsupported_tensor_ops.execWrapper", "torch._utils._import_dotted_name",
    )
] + [
    called("subprocess.Popen", ["touch", RAN]), called("builtins.open", RAN, "w"), called("torch.storage._load_from_bytes", b"x"),
    called("pickle.loads", pickle.dumps(1)), called("torch.load", RAN), called("torch.hub.load", RAN, RAN), called("shutil.rmtree", RAN),
    called("importlib.import_module", "antigravity"), called("builtins.__import__", "antigravity"), called("_codecs.encode", "x", "rot13"),
    called("dill._dill._create_type", "T", (), {}), called("types.FunctionType", 1), called("builtins.bytearray", 10**11),
    called("torch.FloatTensor", 10**11), called("torch.UntypedStorage", 10**11), called("collections.OrderedDict", [[1, 2, 3]]),
    b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n" + bare(("os",)) + b"R" + bare("system") + b"tR" + bare((TOUCH,)) + b"R",
    b"coperator\nattrgetter\n" + bare(("system",)) + b"R(cbuiltins\n__import__\n" + bare(("os",)) + b"RtR" + bare((TOUCH,)) + b"R",
    b"(S'" + TOUCH.encode() + b"'\nios\nsystem\n", b"(cos\nsystem\n" + bare(TOUCH) + b"o", b"cos\nsystem\n" + bare((TOUCH,)) + b"\x81",
    b"cos\nsystem\n" + bare((TOUCH,)) + b"}\x92", bare("os") + bare("system") + b"\x93" + bare((TOUCH,)) + b"R", b"\x82\x01" + bare((TOUCH,)) + b"R",
    b"ctorch\nTensor\n)\x81}" + bare("__setstate__") + b"cos\nsystem\nsb" + bare(TOUCH) + b"b", b"Phello\n", bare(("module", 1)) + b"Q", bare("x") + b"Q",
]  # fmt: skip
CYCLE = b"}q\x00" + bare("model") + b"h\x00s"
DEEP = b")" + b"\x85" * 100_000
FILES = [zipped(call) for call in CALLS] + [before_zip(call) for call in CALLS[::4]] + [
    zipped(CYCLE), zipped(b"]q\x00h\x00a"), zipped(b"}" + DEEP + b"K\x01s"), zipped(DEEP), zipped(b"\x8f(" + DEEP + b"\x90"),
    zipped(b"\x96" + struct.pack("<Q", 2**40)), zipped(b"\x8d" + struct.pack("<Q", 2**40)), zipped(b"Nr\xff\xff\xff\x7f"),
    zipped(b"\x95" + struct.pack("<Q", 2**40)), zipped(bare([["a", 1]] * 2000) + b"q\x000(" + b"ccollections\nOrderedDict\nh\x00\x85R" * 2000 + b"l"),
    zipped(b"(" + b"h\x01" * 9), of(tensor(16, (10**9, 1), (0, 0))), of(tensor(16, (4, 4), (1, 1))), of(tensor(16, (-1, 2), (1, 1))),
    of(tensor(16, (5, 5), (5, 1))), of(tensor(2**40, (2, 2), (2, 1))), of(tensor(16, (2, 2), (2, 1), "QInt8Storage")), of(tensor(2, (2, 1), (1, 1)), "x"),
    of(tensor(16, (2, 2), (2, 1), rebuild="torch._utils._rebuild_meta_tensor_no_storage")), before_zip(b"}" + bare("a") + tensor(2**40, (2, 2), (2, 1)) + b"s"),
    of(tensor(16, (2, 2), (2, 1), rebuild="torch._utils._rebuild_sparse_tensor")), zipped(b"}" + bare("a") + tensor(4, (2, 2), (2, 1)) + b"s"),
    zipped(b"}", [("archive/data/0", bytes(10**7))], packing=zipfile.ZIP_DEFLATED), zipped(b"}", [("../../" + RAN, b"x")]), zipped(b"}", top="../x"),
    zipped(b"}", [("archive/constants.pkl", b"x")]), saved(STATE)[:-1000], saved(STATE)[:5000], saved(STATE, _use_new_zipfile_serialization=False)[:-9],
    changed(value=torch.full((10,), float("nan"))), changed(value=torch.ones(10, dtype=torch.complex64)), changed(value=torch.ones(10, dtype=torch.int8)),
    changed("<img src=x onerror=alert(1)>"), changed("\x1b[2J\u202e"), changed("7.bias", torch.ones(10, device="meta")), changed("x" * 10**5),
    saved({str(k): STATE["5.weight"].view(-1)[k:] for k in range(900)}), b"", b"\x80", b"PK\x03\x04", b"\x1f\x8b" + bytes(99), b"\x89HDF\r\n\x1a\n", b"<html>",
    safetensors(b"{}", 2**63), safetensors(b"{" * 10**6), safetensors(b'{"a":' * 10**5), safetensors(b"{}"), safetensors(b'{"__metadata__": 3}'),
    *(safetensors(json.dumps({"0.weight": {"dtype": "F32", "shape": s, "data_offsets": o}}).encode()) for s, o in (([2**31] * 2, [0, 16]), ([4], [0, 2**50]))),
]  # fmt: skip


def refusal(path, allow_pickle: bool) -> str | None:
    """What is said of a file; None where its network was read. Anything but an error of ours goes through."""
    try:
        load_public(path, allow_pickle=allow_pickle)
    except ReprolibError as error:
        return str(error)


@pytest.mark.parametrize("k", range(len(FILES)))
def test_a_hostile_file_is_refused_in_one_sentence_and_runs_nothing(k, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net\x1b[2J.pt"
    path.write_bytes(FILES[k])
    for allow_pickle in (False, True):
        said = refusal(path, allow_pickle)
        assert said, "it was read"
        assert said.isprintable()
        assert len(said) < 900
    assert os.listdir(tmp_path) == [path.name]
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("k", [0, 1, 7, 9, 18, 34, 35, 36, 37, 40])
def test_the_traps_are_armed(k, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")  # of the file that stays open
        subprocess.Popen.wait(pickle.loads(b"\x80\x04" + CALLS[k] + b"."))
    for _ in range(100):
        if os.listdir(tmp_path) == [RAN]:
            return
        time.sleep(0.05)
    pytest.fail(f"{CALLS[k]} makes nothing")


def test_one_flipped_bit_is_noticed_wherever_it_is(tmp_path):
    whole, path = saved(STATE), tmp_path / "net.pt"
    at = whole.index(STATE["5.weight"].numpy().tobytes()) + 4 * 777 + 3
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
    assert "CRC-32" in refusal(path, False)
    with pytest.raises(ReprolibError, match="CRC-32"):
        reprolib.open_checkpoint(path, releases.oval(), mean=(0,) * 3, std=(1,) * 3)


def test_what_is_no_file_is_refused_and_a_link_is_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("nothing")
    for name, why in (("folder", "is a folder"), ("loop", "is not there"), ("nowhere", "is not there"), ("a\x00b", "is not there")):
        assert why in refusal(tmp_path / name, False)
    (tmp_path / "whole.pt").write_bytes(saved(STATE))
    (tmp_path / "link").symlink_to("whole.pt")
    assert refusal(tmp_path / "link", False) is None


def test_all_of_them_together_take_less_than_a_gibibyte():
    code = "import resource, test_hostile_files as t; peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; before = peak();"
    code += "t.read_all(); print((peak() - before) / 2**20)"
    folder = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, (folder, folder.parent)), os.environ.get("PYTHONPATH", "")])}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=folder.parent.parent, env=environment, capture_output=True, text=True, check=True
    )
    assert float(found.stdout) < 1


def read_all() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for content in FILES:
            (Path(folder) / "net.pt").write_bytes(content)
            refusal(Path(folder) / "net.pt", True)
