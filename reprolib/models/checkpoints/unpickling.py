"""Reading a torch file that holds more than tensors without running anything in it.

Old releases pickle optimisers, argument objects and, through dill, classes beside the weights (MadryLab/robustness issues 8,
22, 71, 81, 105). Here only what tensors and plain numbers are made of means anything; every other name in the file becomes an
inert stub. Nothing real is handed out either, but a guarded stand-in: a pickle can also set attributes of what it is given.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import torch


class _Inert(type):
    """Of classes that do nothing: calling one, making an instance, filling it in, all give or change nothing."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return _stub("result of a call", cls.__name__)

    def __setitem__(cls, key: Any, value: Any) -> None:
        """Ignored."""


def _stub(module: str, name: str) -> type:
    """A fresh class that stands for `module.name`."""
    ignore = staticmethod(lambda *args, **kwargs: None)
    members = dict.fromkeys(("__setstate__", "append", "extend", "add"), ignore)
    return _Inert(name, (), members | {"__new__": lambda cls, *args, **kwargs: cls, "stands_for": f"{module}.{name}"})


class _Guarded:
    """A function that a pickle may call and do nothing else with."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        """Ignored."""

    def __setstate__(self, state: Any) -> None:
        """Ignored."""


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *rest: Any) -> torch.Tensor:
    return torch._utils._rebuild_tensor(storage, offset, size, stride)  # without the hooks a file may name


def _dtype(code: Any, *rest: Any) -> np.dtype:
    if not (isinstance(code, str) and re.fullmatch(r"[biufc]\d{1,2}", code)):
        raise pickle.UnpicklingError(f"numpy scalars of type {code!r} are not read")
    return np.dtype(code)


class _ScalarType:
    """A numpy number type on its way through a pickle, which then sets the byte order."""

    def __init__(self, code: Any, *rest: Any) -> None:
        self.dtype = _dtype(code)

    def __setstate__(self, state: Any) -> None:
        """Take the byte order, ignore the rest."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


def _scalar(kind: _ScalarType, content: Any) -> float | int | bool | complex:
    data = content.encode("latin1") if isinstance(content, str) else content
    if not (isinstance(kind, _ScalarType) and isinstance(data, bytes) and len(data) == kind.dtype.itemsize):
        raise pickle.UnpicklingError("a numpy scalar in it is damaged")
    return np.frombuffer(data, kind.dtype)[0].item()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r} are not read")
    return text.encode("latin1")


_MEANT: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": OrderedDict,
    "torch.Size": torch.Size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *rest: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *rest: data,
    "numpy.dtype": _ScalarType,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "_codecs.encode": _encode,
}


class _Restricted:
    """What `torch.load` takes for the pickle module: its unpickler finds nothing but what is listed above."""

    __name__ = "reprolib.models.checkpoints.unpickling"

    class Unpickler(pickle.Unpickler):
        """Looks no name up anywhere: names are either meant or stubs (torch itself resolves the names of its storages)."""

        def find_class(self, module: str, name: str) -> Any:
            """See `pickle.Unpickler.find_class`."""
            meant = _MEANT.get(f"{module}.{name}")
            return _Guarded(meant) if meant else _stub(module, name)

    @classmethod
    def load(cls, file: BinaryIO, **options: Any) -> Any:
        """See `pickle.load`."""
        return cls.Unpickler(file, **options).load()


def load_tensors_only(content: bytes) -> Any:
    """What a torch file holds, tensors on the CPU, everything that is neither tensor, container nor number an inert stub.

    Raises pickle.UnpicklingError, RuntimeError, EOFError and others when the file is damaged, and UnpicklingError for a
    TorchScript archive, which is code.
    """
    names = zipfile.ZipFile(io.BytesIO(content)).namelist() if content.startswith(b"PK") else []
    if any(name.endswith("/constants.pkl") for name in names):
        raise pickle.UnpicklingError("it is a TorchScript archive, which is code")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch looks for the source of stubs that stand for modules
        return torch.load(io.BytesIO(content), map_location="cpu", pickle_module=_Restricted, weights_only=False)
