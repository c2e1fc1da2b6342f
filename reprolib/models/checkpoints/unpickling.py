"""What a torch file holds, read without torch.load: nothing in it runs, and nothing is made that is larger than the file.

Old releases pickle optimisers, argument objects, whole modules and, through dill, classes beside the weights (MadryLab/robustness
issues 8, 22, 71, 81, 105). Here only what tensors and containers are made of means anything; every other name becomes a `Stub`.
Tensors are views of the file's own storages, within them; a zip's records are held to their CRC-32.
"""

from __future__ import annotations

import io
import itertools
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16, "CharStorage": torch.int8,
    "ByteStorage": torch.uint8, "BoolStorage": torch.bool, "UntypedStorage": torch.uint8,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
}  # fmt: skip
_MAGIC = 0x1950A86A20F9469CFC6C  # of files from before torch 1.6


class Unread(pickle.UnpicklingError):
    """A file is whole, as far as was seen, and holds what is not read here."""


class Stub:
    """Stands for an object that is neither tensor, container nor number, and does nothing. state: what the file says of its attributes."""

    __slots__ = ("name", "state")

    def __init__(self, name: str) -> None:
        self.name, self.state = name[:200], None

    def extend(self, *given: Any) -> None:
        """Ignored, as is whatever a file puts into an object."""

    append = extend

    def module_state(self) -> dict[str, Tensor]:
        """The state dict of a module that was saved whole; empty for anything else."""
        found: dict[str, Tensor] = {}
        waiting: list[tuple[str, Any]] = [("", self)]
        for prefix, module in itertools.islice(waiting, 20_000):  # it grows
            held: dict[str, Any] = module.state if isinstance(module, Stub) and isinstance(module.state, dict) else {}
            tensors, buffers, modules = (
                part if isinstance(part := held.get(name), dict) else {} for name in ("_parameters", "_buffers", "_modules")
            )
            found |= {f"{prefix}{name}": value for name, value in (tensors | buffers).items() if isinstance(value, Tensor)}
            waiting += [(f"{prefix}{name}.", inner) for name, inner in modules.items() if len(prefix) + len(str(name)) < 300]
        return found


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor:
    if not isinstance(storage, Tensor) or not all(isinstance(n, int) and n >= 0 for n in (offset, *size, *stride)):
        raise pickle.UnpicklingError(f"a tensor in it has size {tuple(size)[:8]} and stride {tuple(stride)[:8]}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and last >= len(storage):
        raise pickle.UnpicklingError(f"a tensor in it reaches to element {last} of a storage of {len(storage)}")
    return torch.as_strided(storage, size, stride, offset)  # without the hooks a file may name


_MEANT: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda pairs=(): OrderedDict((key, value) for key, value in pairs if isinstance(key, str)),
    "collections.defaultdict": lambda *factory: {},
    "torch.Size": lambda numbers=(): tuple(numbers),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *rest: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *rest: data,
}
_HARMLESS = {str(value) for value in vars(torch).values() if isinstance(value, torch.dtype)} | {
    "torch.device", "builtins.set", "builtins.bytearray", "builtins.complex", "collections.Counter", "numpy.dtype",
    "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "_codecs.encode", *_MEANT,
}  # fmt: skip
_REFUSED = {"meta": "has no values (it is of the meta device)", "sparse": "is sparse", "qtensor": "is quantised", "v3": "is of a rare kind"}


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler, in which names are looked up nowhere, objects are stubs and a dictionary's keys are texts or small numbers.

    (A tuple nested a million times ends the interpreter when it is hashed.) others: the names of what became stubs.
    """

    stack: list[Any]

    def __init__(self, file: io.BytesIO, storage: Callable[[str, int], Tensor] | None = None) -> None:
        super().__init__(file, encoding="latin1")
        self.storage, self.others, self.left = storage, list[str](), len(file.getbuffer())

    def find_class(self, module: str, name: str) -> Stub:
        """A stub, always."""
        module = module.replace("__builtin__", "builtins")  # Python 2
        if f"{module}.{name}" not in _HARMLESS and name not in _STORAGES:
            self.others.append(f"{module}.{name}")
        return Stub(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """A storage, flat; of files from before torch 1.6 also the class of a module."""
        if isinstance(pid, tuple) and len(pid) == 4 and pid[0] == "module":
            return pid[1]
        if self.storage is None or not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], Stub):
            raise pickle.UnpicklingError("it refers to something else than a storage")
        kind, key, _, n, *view = pid[1:]
        dtype = _STORAGES.get(kind.name.rpartition(".")[2])
        if dtype is None or not isinstance(n, int) or n < 0:
            raise Unread(f"it holds a storage of the kind {kind.name}")
        flat = self.storage(str(key), n * dtype.itemsize).view(dtype)
        return flat[view[0][1] : view[0][1] + view[0][2]] if view and view[0] else flat

    def _reduce(self) -> None:
        """What a call gives: of what is meant its value, of anything else a stub."""
        arguments, function = self.stack.pop(), self.stack.pop()
        name = function.name if isinstance(function, Stub) else ""
        if name == "torch._tensor._rebuild_from_type_v2":  # a tensor with attributes
            function, _, arguments, _ = arguments
            name = function.name
        why = next((words for word, words in _REFUSED.items() if name.startswith("torch._utils._rebuild") and word in name), None)
        if why is not None:
            raise Unread(f"a tensor in it {why}")
        self.left -= sum(len(given) for given in arguments if isinstance(given, list | tuple | dict)) if name in _MEANT else 0
        if self.left < 0:
            raise pickle.UnpicklingError("it makes more of its bytes than it has")
        self.stack.append(_MEANT[name](*arguments) if name in _MEANT else Stub(f"what {name} makes"))

    def _build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, Stub):
            made.state = state

    def _fill(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict | Stub):
            raise pickle.UnpicklingError("it sets items of what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(self.stack[-1], dict) and (isinstance(key, str) or (isinstance(key, int) and abs(key) < 2**31)):
                self.stack[-1][key] = value

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("it holds an instruction that no checkpoint needs")

    dispatch = pickle._Unpickler.dispatch | {
        pickle.REDUCE[0]: _reduce, pickle.NEWOBJ[0]: _reduce, pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: lambda self: self._fill([self.stack.pop(), self.stack.pop()][::-1]),
        pickle.SETITEMS[0]: lambda self: self._fill(self.pop_mark()),
        **dict.fromkeys((*b"\x82\x83\x84\x96\x97\x98\x8f\x90\x91\x92dio",), _refuse),  # EXT, buffers, sets, NEWOBJ_EX, DICT, INST, OBJ
    }  # fmt: skip


def load(content: bytes) -> tuple[Any, list[str]]:
    """What a torch file holds, tensors on the CPU, and the names of what became stubs in it.

    Raises Unread for what is whole and not read, e.g. TorchScript; UnpicklingError, BadZipFile and many others for what is damaged.
    """
    storages: dict[str, Tensor] = {}
    if content.startswith(b"PK"):
        archive = zipfile.ZipFile(io.BytesIO(content))
        records = {record.filename: record for record in archive.infolist()}
        top = next((name.removesuffix("data.pkl") for name in records if name.count("/") == 1 and name.endswith("/data.pkl")), None)
        if f"{top}constants.pkl" in records:
            raise Unread("it is a TorchScript archive, which is code")
        if top is None or not all(name.startswith(top) and ".." not in name for name in records):
            raise Unread("it is a zip archive, but none of torch.save")
        if any(r.compress_type for r in records.values()) or sum(r.file_size for r in records.values()) > len(content):
            raise Unread("its records are packed, or claim more bytes than there are")
        if f"{top}byteorder" in records and archive.read(f"{top}byteorder") != b"little":
            raise Unread("it was written in big-endian byte order")

        def storage(key: str, n_bytes: int) -> Tensor:
            if key not in storages:
                storages[key] = _bytes(archive.read(f"{top}data/{key}"))
            if len(storages[key]) < n_bytes:
                raise pickle.UnpicklingError(f"a storage in it has {len(storages[key])} bytes instead of {n_bytes}")
            return storages[key][:n_bytes]

        reader = _Unpickler(io.BytesIO(archive.read(f"{top}data.pkl")), storage)
        return reader.load(), reader.others

    def still_empty(key: str, n_bytes: int) -> Tensor:
        if key not in storages:
            if n_bytes + sum(map(len, storages.values())) > len(content):
                raise pickle.UnpicklingError("its storages claim more bytes than there are")
            storages[key] = torch.zeros(n_bytes, dtype=torch.uint8)
        return storages[key][:n_bytes]

    file = io.BytesIO(content)  # of before torch 1.6: five pickles, then the bytes of the storages in the order that the last one names
    if content and content[0] != 0x80 or _Unpickler(file).load() != _MAGIC:
        raise Unread("it begins as no file of torch.save does")
    _, system, reader = _Unpickler(file).load(), _Unpickler(file).load(), _Unpickler(file, still_empty)
    if not system.get("little_endian", True):
        raise Unread("it was written in big-endian byte order")
    found = reader.load()
    for key in _Unpickler(file).load():
        file.read(8)  # the number of elements, which the pickle has told
        here = storages[str(key)]
        here.copy_(_bytes(file.read(len(here))).view(here.shape))
    return found, reader.others


def _bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.zeros(0, dtype=torch.uint8)
