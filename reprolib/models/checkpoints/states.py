"""Which tensors of a file are the network's: its states, wrappers before names, the normaliser in it or beside it.

Everything here is a function of plain mappings; no file is touched.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from reprolib.errors import BadInput, CorruptFile, nearest
from reprolib.models.checkpoints.files import said
from reprolib.models.checkpoints.unpickling import Stub

State = dict[str, Tensor]
Channels = tuple[float, ...]
Found = tuple[str, Channels, Channels]
"""A normaliser: what it is called, mean and std."""

WRAPPERS = ("model", "state_dict", "model_state_dict", "net", "best", "last")
"""Where a file keeps its state, in this order where it has several; a file of tensors alone is the state itself."""

PAIRS = (("new_mean", "new_std"), ("mean", "std"), ("mu", "sigma"))
"""What the tensors of a normaliser are called, whatever the module that holds them is."""


def states_of(content: Any, where: str, size: int, chosen: str | None = None) -> tuple[list[State], str]:
    """The state a loaded file holds, or one a member where it keeps a list of several; and which it is, of which, in words.

    size: of the file, bytes. chosen: which, where a file has several: the name under which it lies.
    Raises CorruptFile when it holds none, and for tensors that make more of the file than it has; BadInput when it must be chosen.
    """
    found = _all_states(content)
    if not found:
        what = said(content.name) if isinstance(content, Stub) else type(content).__name__
        held = ", ".join(said(key, 40) for key in list(content)[:5]) if isinstance(content, Mapping) else what
        raise CorruptFile(
            f"{where} holds no state dict (found: {held or 'nothing'}): expected named tensors, at the top or under {', '.join(WRAPPERS)}"
        )
    ranks = [WRAPPERS.index(name.split(".")[0]) if name.split(".")[0] in WRAPPERS else 99 for name in found]
    if chosen is None:
        wanted = [name for name, rank in zip(found, ranks, strict=True) if rank == min(ranks)]
    else:
        wanted = [name for name in found if chosen in (name, name.split(".")[0], name.rpartition(".")[2])]
        if not wanted and any(chosen in key.split(".") for states in found.values() for state in states for key in state):
            wanted = list(found)  # a part of its names is meant: see `one_of`
    if len(wanted) != 1:
        choices = ", ".join(repr(said(name, 60)) for name in list(found)[:8])
        if list(found) == [""]:
            raise BadInput(f"state={chosen!r} is not in {where}, which holds one state: leave state= out")
        raise BadInput(f"{where} holds {len(found)} states: choose one by state=, allowed: {choices}{nearest(chosen or '', found)}")
    others = ", ".join(said(name, 60) for name in list(found)[:8] if name != wanted[0])
    told = said(wanted[0], 60) or "the file itself"
    states = []
    for state in found[wanted[0]]:
        for name, tensor in state.items():
            if not name.isprintable() or len(name) > 300:
                raise CorruptFile(f"{where} holds a tensor named {said(name)!r}: that is no name of a module")
            if _overlaps(tensor):
                raise CorruptFile(
                    f"{where}: elements of {name}, {tuple(tensor.shape)}, lie on top of each other: such tensors are not taken"
                )
        if 4 * sum(tensor.numel() for tensor in state.values()) > 8 * size:
            raise CorruptFile(f"{where}: the tensors of {told} are more than 8 times the file, which repeats itself: it was not taken")
        if "n_averaged" in state:
            told += ", averaged weights"
        states.append(_bare(state, where))
    return states, told + (f" (not read: {others})" if others else "")


def _all_states(content: Any) -> dict[str, list[Mapping[str, Tensor]]]:
    """Every mapping in a file whose values are all tensors, and modules saved whole, by the names that lead to them."""
    found: dict[str, list[Mapping[str, Tensor]]] = {}
    waiting, seen = [("", 0, content)], set[int]()
    for name, depth, value in waiting:  # grows while it is walked
        if id(value) in seen or len(seen) > 10_000:
            continue
        seen.add(id(value))
        listed = value if isinstance(value, list) else [value]
        states = [one.module_state() if isinstance(one, Stub) else one for one in listed]
        if states and all(_is_state(state) for state in states):
            found[name] = states
        elif isinstance(value, Mapping) and depth < 4:
            inner = [(str(key), held) for key, held in value.items() if isinstance(key, str) and not key.startswith("optim")]
            waiting += [(f"{name}.{key}".removeprefix("."), depth + 1, held) for key, held in inner if len(key) < 300]
    return found


def _is_state(value: Any) -> bool:
    """Whether it is named tensors, one of them no mere vector."""
    if not isinstance(value, Mapping) or not all(isinstance(v, Tensor) and isinstance(k, str) for k, v in value.items()):
        return False
    return any(tensor.dim() > 1 for name, tensor in value.items() if name not in {one for pair in PAIRS for one in pair})


def _overlaps(tensor: Tensor) -> bool:
    """Whether two elements of a tensor are one and the same number: a small file makes a large tensor that way."""
    reach = 0
    for step, n in sorted((step, n) for step, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1):
        if step <= reach:
            return True
        reach += (n - 1) * step
    return False


def _bare(state: Mapping[str, Tensor], where: str) -> State:
    """The state without the wrappers of DataParallel and torch.compile, wherever they stand in a name."""
    plain: State = {}
    for key, tensor in state.items():
        name = bare(key)
        if name in plain and not _same(plain[name], tensor):
            raise CorruptFile(f"{where} holds {name} twice with different values (once as {key}): get the file again")
        plain[name] = tensor
    return plain


def bare(name: str) -> str:
    """A tensor's name without the names of wrappers that change no function."""
    return re.sub(r"(?<![^.])(?:module|_orig_mod)\.", "", name)


def prefixes(state: State, names: Collection[str]) -> tuple[int, list[str]]:
    """How many of these names lie in a state behind one prefix, at most, and the prefixes of which that is so, short ones first."""
    count: Counter[str] = Counter()
    for key in state:
        starts = [0, *(dot.end() for dot in re.finditer(r"\.", key))]
        count.update(key[:start] for start in starts if key[start:] in names)
    most = max(count.values(), default=0)
    return most, sorted((prefix for prefix in count if count[prefix] == most), key=len) or [""]


def one_of(allowed: list[str], state: State, where: str, chosen: str | None) -> str:
    """The one of several prefixes that is meant: `chosen` is a part of it, or the values behind all of them are the same.

    Raises BadInput where it has to be chosen.
    """
    first, *others = [prefix for prefix in allowed if chosen in prefix.split(".")] or allowed
    inner = [key.removeprefix(first) for key in state if key.startswith(first)]
    if any(other + name in state and not _same(state[first + name], state[other + name]) for other in others for name in inner):
        choices = ", ".join(repr(prefix.rstrip(".")) for prefix in allowed[:8])
        raise BadInput(f"{where} holds several networks with the same names, behind {choices}: choose one by state=")
    return first


def take_normaliser(state: State, where: str, is_given: bool = False) -> Found | None:
    """The normaliser the state holds, removed from it: (what it was called, mean, std), or None.

    is_given: another one is used instead. Raises CorruptFile for two that differ (which one counts?), and for a std not above 0.
    """
    found: list[Found] = []
    for key in list(state):
        path, dot, last = key.rpartition(".")
        partner = next((path + dot + std for mean, std in PAIRS if mean == last), "")
        mean, std = numbers(state.get(key)), numbers(state.get(partner))
        if mean is None or std is None or len(mean) != len(std):
            continue
        del state[key], state[partner]
        if not min(std) > 0:
            raise CorruptFile(f"{where}: {key} and {partner} are {mean} and {std}: expected std above 0")
        found.append((f"{key} and {partner}", mean, std))
    if len({one[1:] for one in found}) > 1 and not is_given:
        raise CorruptFile(
            f"{where} holds {len(found)} normalisers that differ ({'; '.join(one[0] for one in found)}): which one counts? give mean=, std="
        )
    return found[0] if found else None


def numbers(value: Any) -> Channels | None:
    """A tensor, a list or a tuple of one to four numbers, as numbers (no numbers where it is on the meta device); None for anything else."""
    if isinstance(value, Tensor) and 1 <= value.numel() <= 4 and not value.is_complex():
        return (math.nan,) * value.numel() if value.is_meta else tuple(value.detach().double().flatten().tolist())
    is_listed = isinstance(value, list | tuple) and 1 <= len(value) <= 4 and all(isinstance(n, int | float) for n in value)
    return tuple(map(float, value)) if is_listed else None


def fitted(wanted: Mapping[str, Tensor], state: State, where: str, what: str) -> State:
    """The file's tensors by the names that are wanted, each a copy of its own, fp32 where it is a floating-point number.

    wanted: tensors of the shapes and kinds that are needed; their values do not matter.
    Raises BadInput unless names, shapes and kinds agree one to one; CorruptFile for values that are not finite.
    """
    # Files of before torch 0.4.1 do not count batches, and nothing depends on the count; auxiliary heads take part in training only.
    idle = re.compile(r"(.*\.)?num_batches_tracked|(aux1|aux2|AuxLogits)\..*|n_averaged")
    shared = [name for name in wanted if name in state]
    faults = {
        "missing": [name for name in wanted if name not in state and not idle.fullmatch(name)],
        "unexpected": [name for name in state if name not in wanted and not idle.fullmatch(name)],
        "of another shape": [name for name in shared if state[name].shape != wanted[name].shape],
        "not of floating-point numbers": [n for n in shared if wanted[n].is_floating_point() and not state[n].is_floating_point()],
        "not of whole numbers": [n for n in shared if not wanted[n].is_floating_point() and state[n].is_floating_point()],
    }
    if any(faults.values()):
        listed = "; ".join(
            f"{len(names)} {fault} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" for fault, names in faults.items() if names
        )
        raise BadInput(f"{where} is no {what}: {listed}")
    kinds = {name: torch.float32 if state[name].is_floating_point() else state[name].dtype for name in shared}
    made = {name: state[name].detach().to(kind, copy=True).contiguous() for name, kind in kinds.items()}
    if damaged := [name for name, tensor in made.items() if not torch.isfinite(tensor).all()]:
        raise CorruptFile(f"{where}: {', '.join(damaged[:5])} hold values that are not finite: damaged, or its training diverged")
    return {name: torch.tensor(0) for name in wanted if name.endswith("num_batches_tracked")} | made


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)
