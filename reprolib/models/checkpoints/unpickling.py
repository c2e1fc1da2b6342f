"""What a torch file holds, read without torch.load: nothing in it runs, and nothing is made that is larger than the file.

Old releases pickle optimisers, argument objects, whole modules and, through dill, classes beside the weights (MadryLab/robustness
issues 8, 22, 71, 81, 105). Here only what tensors, containers and plain numbers are made of means anything; every other name becomes
a `Stub`. Tensors are views of the file's own storages, within them; a zip's records are held to their CRC-32.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

_STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16, "CharStorage": torch.int8,
    "ByteStorage": torch.uint8, "BoolStorage": torch.bool, "UntypedStorage": torch.uint8,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
}  # fmt: skip
_MAGIC = 0x1950A86A20F9469CFC6C  # of files from before torch 1.6
_LONGEST = 500  # characters of a tensor's name


class Stub:
    """Stands for an object that is neither tensor, container nor number, and does nothing. state: what the file says of its attributes."""

    __slots__ = ("name", "state")

    def __init__(self, name: str) -> None:
        self.name, self.state = name, None

    def module_state(self) -> dict[str, Tensor]:
        """The state dict of a module that was saved whole, from the attributes of it and of its children; empty for anything else."""
        found: dict[str, Tensor] = {}
        waiting: list[tuple[str, Any]] = [("", self)]
        for prefix, module in waiting:  # grows while it is walked
            held: dict[str, Any] = module.state if isinstance(module, Stub) and isinstance(module.state, dict) else {}
            hidden = held.get("_non_persistent_buffers_set")
            for kind in ("_parameters", "_buffers", "_modules"):
                part = held.get(kind)
                for name, value in part.items() if isinstance(part, dict) else ():
                    if kind == "_modules" and len(prefix) + len(str(name)) < _LONGEST:
                        waiting.append((f"{prefix}{name}.", value))
                    elif isinstance(value, Tensor) and not (isinstance(hidden, list) and name in hidden):
                        found[f"{prefix}{name}"] = value
            if len(waiting) > 20_000:
                raise pickle.UnpicklingError("a module in it holds itself, or more than 20,000 others")
        return found


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor:
    numbers = (offset, *size, *stride)
    if not isinstance(storage, Tensor) or len(size) != len(stride) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise pickle.UnpicklingError(f"a tensor in it has size {tuple(size)[:8]} and stride {tuple(stride)[:8]}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and last >= len(storage):
        raise pickle.UnpicklingError(f"a tensor in it reaches to element {last} of a storage of {len(storage)}")
    return torch.as_strided(storage, size, stride, offset)  # without the hooks a file may name


class _ScalarType:
    """A numpy number type on its way through a pickle, which then sets the byte order."""

    def __init__(self, code: Any, *rest: Any) -> None:
        if not (isinstance(code, str) and re.fullmatch(r"[biufc]\d{1,2}", code)):
            raise pickle.UnpicklingError(f"numpy scalars of type {str(code)[:40]!r} are not read")
        self.dtype = np.dtype(code)


def _scalar(kind: Any, content: Any) -> float | int | bool | complex:
    data = content.encode("latin1") if isinstance(content, str) else content
    if not (isinstance(kind, _ScalarType) and isinstance(data, bytes) and len(data) == kind.dtype.itemsize):
        raise pickle.UnpicklingError("a numpy scalar in it is damaged")
    return np.frombuffer(data, kind.dtype)[0].item()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {str(encoding)[:40]!r} are not read")
    return text.encode("latin1")


_MEANT: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda pairs=(): OrderedDict((key, value) for key, value in pairs if isinstance(key, str)),
    "collections.defaultdict": lambda *factory: {},
    "torch.Size": lambda numbers=(): tuple(numbers),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *rest: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *rest: data,
    "numpy.dtype": _ScalarType,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "_codecs.encode": _encode,
}

_HARMLESS = {str(value) for value in vars(torch).values() if isinstance(value, torch.dtype)} | {
    "torch.device", "builtins.set", "__builtin__.set", "builtins.bytearray", "builtins.complex", "collections.Counter",
}  # fmt: skip

_REFUSED = {"meta": "has no values (it was saved from the meta device)", "sparse": "is sparse", "qtensor": "is quantised"}


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler, in which names are looked up nowhere, objects are stubs and a dictionary's keys are texts or small numbers.

    (A tuple nested a million times ends the interpreter when it is hashed.) others: the names of what became stubs.
    """

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: io.BytesIO, storage: Callable[[Any, int], Tensor] | None = None) -> None:
        super().__init__(file, encoding="latin1")
        self.storage, self.others = storage, list[str]()
        self.left = len(file.getbuffer())  # how much calls may make of what they are given, in all

    def find_class(self, module: str, name: str) -> Stub:
        """A stub, always."""
        stub = Stub(f"{module}.{name}")
        if stub.name not in _MEANT and stub.name not in _HARMLESS and name not in _STORAGES:
            self.others.append(stub.name)
        return stub

    def persistent_load(self, pid: Any) -> Any:
        """A storage, flat; of files from before torch 1.6 also the class of a module."""
        if isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "module":
            return pid[1]
        if self.storage is None or not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], Stub):
            raise pickle.UnpicklingError("it refers to something else than a storage")
        kind, key, _, n, *view = pid[1:]
        dtype = _STORAGES.get(kind.name.rpartition(".")[2])
        if dtype is None or not isinstance(n, int) or n < 0:
            raise pickle.UnpicklingError(f"it holds a storage of the kind {kind.name}, which is not read")
        flat = self.storage(key, n * dtype.itemsize).view(dtype)
        return flat[view[0][1] : view[0][1] + view[0][2]] if view and view[0] else flat

    def _make(self, function: Any, arguments: Any) -> Any:
        """What a call gives: of what is meant its value, of anything else a stub."""
        name = function.name if isinstance(function, Stub) else type(function).__name__
        if name == "torch._tensor._rebuild_from_type_v2":  # a tensor with attributes
            function, _, arguments, _ = arguments
            name = function.name if isinstance(function, Stub) else ""
        why = next((words for word, words in _REFUSED.items() if name.startswith("torch._utils._rebuild") and word in name), None)
        if why is not None:
            raise pickle.UnpicklingError(f"a tensor in it {why}")
        if name not in _MEANT or not isinstance(function, Stub):
            return Stub(f"what {name} makes"[:200])
        self.left -= sum(len(given) for given in arguments if isinstance(given, str | bytes | list | tuple | dict))
        if self.left < 0:
            raise pickle.UnpicklingError("it makes more of its bytes than it has")
        return _MEANT[name](*arguments)

    def _reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self._make(function, arguments))

    def _newobj_ex(self) -> None:
        self.stack.pop()
        self._reduce()

    def _instantiate(self, klass: Any, arguments: Any) -> None:
        self.stack.append(self._make(klass, arguments))

    def _build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, Stub):
            made.state = state[0] if isinstance(state, tuple) and state else state
        elif isinstance(made, _ScalarType) and isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            made.dtype = made.dtype.newbyteorder(state[1])

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)
        elif not isinstance(self.stack[-1], Stub):
            raise pickle.UnpicklingError("it appends to what is no list")

    def _fill(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict | Stub):
            raise pickle.UnpicklingError("it sets items of what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(self.stack[-1], dict) and (isinstance(key, str) or (isinstance(key, int) and abs(key) < 2**31)):
                self.stack[-1][key] = value

    def _put(self, made: Any, fill: Callable[[list[Any]], None] | None = None) -> None:
        items = [] if fill is None else self.pop_mark()
        self.stack.append(made)
        if fill is not None:
            fill(items)

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("it holds an instruction that no checkpoint needs")

    dispatch = pickle._Unpickler.dispatch | {
        code[0]: call
        for code, call in {
            pickle.REDUCE: _reduce, pickle.NEWOBJ: _reduce, pickle.NEWOBJ_EX: _newobj_ex, pickle.BUILD: _build,
            pickle.APPEND: lambda self: self._extend([self.stack.pop()]), pickle.APPENDS: lambda self: self._extend(self.pop_mark()),
            pickle.ADDITEMS: lambda self: self._extend(self.pop_mark()), pickle.EMPTY_SET: lambda self: self._put([]),
            pickle.FROZENSET: lambda self: self._put([], self._extend), pickle.DICT: lambda self: self._put({}, self._fill),
            pickle.SETITEM: lambda self: self._fill([self.stack.pop(), self.stack.pop()][::-1]),
            pickle.SETITEMS: lambda self: self._fill(self.pop_mark()),
            **dict.fromkeys((pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER), _refuse),
        }.items()
    }  # fmt: skip


def load(content: bytes) -> tuple[Any, list[str]]:
    """What a torch file holds, tensors on the CPU, and the names of what became stubs in it.

    Raises pickle.UnpicklingError, zipfile.BadZipFile, EOFError and others for what is damaged, TorchScript, or no file of torch.save.
    """
    return _of_zip(content) if content.startswith(b"PK") else _of_before_zip(content)


def _of_zip(content: bytes) -> tuple[Any, list[str]]:
    archive = zipfile.ZipFile(io.BytesIO(content))
    records = {record.filename: record for record in archive.infolist()}
    top = next((name.removesuffix("data.pkl") for name in records if name.count("/") == 1 and name.endswith("/data.pkl")), None)
    if any(name.endswith("/constants.pkl") for name in records):
        raise pickle.UnpicklingError("it is a TorchScript archive, which is code")
    if top is None or not all(name.startswith(top) and ".." not in name for name in records):
        raise pickle.UnpicklingError("it is a zip archive, but not one of torch.save")
    if any(r.compress_type for r in records.values()) or sum(r.file_size for r in records.values()) > len(content):
        raise pickle.UnpicklingError("its records are packed, or claim more bytes than there are")
    if f"{top}byteorder" in records and archive.read(f"{top}byteorder") != b"little":
        raise pickle.UnpicklingError("it was written in big-endian byte order, which is not read")
    storages: dict[Any, Tensor] = {}

    def storage(key: Any, n_bytes: int) -> Tensor:
        if str(key) not in storages:
            storages[str(key)] = _bytes(archive.read(f"{top}data/{key}"))
        if len(storages[str(key)]) < n_bytes:
            raise pickle.UnpicklingError(f"a storage in it has {len(storages[str(key)])} bytes instead of {n_bytes}")
        return storages[str(key)][:n_bytes]

    reader = _Unpickler(io.BytesIO(archive.read(f"{top}data.pkl")), storage)
    return reader.load(), reader.others


def _of_before_zip(content: bytes) -> tuple[Any, list[str]]:
    """Files from before torch 1.6: five pickles, then the bytes of the storages in the order that the last one names."""
    file = io.BytesIO(content)
    if _Unpickler(file).load() != _MAGIC:
        raise pickle.UnpicklingError("it is a pickle, but not one of torch.save")
    _, system = (_Unpickler(file).load() for _ in range(2))
    if not isinstance(system, dict) or not system.get("little_endian", True):
        raise pickle.UnpicklingError("it was written in big-endian byte order, which is not read")
    storages: dict[Any, Tensor] = {}

    def storage(key: Any, n_bytes: int) -> Tensor:
        if str(key) not in storages:
            if n_bytes + sum(map(len, storages.values())) > len(content):
                raise pickle.UnpicklingError("its storages claim more bytes than there are")
            storages[str(key)] = torch.zeros(n_bytes, dtype=torch.uint8)
        return storages[str(key)][:n_bytes]

    reader = _Unpickler(file, storage)
    found = reader.load()
    for key in _Unpickler(file).load():
        n, here = int.from_bytes(file.read(8), "little"), storages[str(key)]
        data = file.read(len(here))
        if len(data) != len(here) or (n and len(here) % n):
            raise EOFError("a storage in it is cut short")
        here.copy_(_bytes(data))
    return found, reader.others


def _bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.zeros(0, dtype=torch.uint8)
