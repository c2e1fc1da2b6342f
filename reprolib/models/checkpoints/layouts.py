"""From the names and shapes in a public checkpoint to a state of one of our networks: wrappers, normalisers, architectures.

The layouts are those of MadryLab/robustness, madrylab/robust-imagenet-models, anguyen8/shape-bias, RobustBench, torchvision,
EhanW/advrob-cifar10 and oval-group/oval-bab. Everything here is a function of plain dictionaries; no file is touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reprolib.errors import BadInput, CorruptFile, nearest
from reprolib.models.public_networks import Plan

State = dict[str, Tensor]
Channels = tuple[float, ...]

PREFIXES = ("module.", "model.", "_orig_mod.")
"""Names of wrappers (DataParallel, the publishers' own, torch.compile), cut where a key starts with them, and nowhere else."""

WRAPPERS = ("model", "state_dict", "best", "last")
"""Where a file keeps its state, looked for in this order; a file without any of them is the state itself."""

_BUFFERS = (
    ("normalizer.new_mean", "normalizer.new_std"),
    ("normalize.new_mean", "normalize.new_std"),
    ("normalizer.mean", "normalizer.std"),
    ("normalize.mean", "normalize.std"),
    ("mu", "sigma"),
    ("mean", "std"),
)

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

NORMALISERS: dict[str, tuple[Channels, Channels]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),  # MadryLab/robustness
    "cifar10_all_pixels": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),  # shashankkotyan/RepresentationMetrics, ours
    "imagenet": _IMAGENET,
    "restricted_imagenet": ((0.4717, 0.4499, 0.3837), (0.2600, 0.2516, 0.2575)),  # MadryLab/robustness
    "raw": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),  # most of RobustBench's CIFAR networks take pixels as they are
}
"""Mean and standard deviation per channel, in units of [0, 1], of networks whose file does not say."""


@dataclass(frozen=True)
class Layout:
    """How a release names things: the plan its shapes give, the file's name of each of our names, and its known normaliser.

    release: (who, mean, std) where one publisher alone uses this layout and its normaliser is known, else None.
    """

    plan: Plan
    name_in_file: Callable[[str], str]
    release: tuple[str, Channels, Channels] | None = None


def states_of(content: Any, where: str) -> list[State]:
    """The states a loaded file holds: one, or one a member where it keeps a list of several.

    Raises CorruptFile when it holds none.
    """
    while isinstance(content, Mapping):
        inner = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping | list)), None)
        if inner is None:
            break
        content = inner
    found = content if isinstance(content, list) else [content]
    for state in found:
        if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
            held = ", ".join(map(str, list(state)[:5])) if isinstance(state, Mapping) else type(state).__name__
            raise CorruptFile(
                f"{where} holds no state dict (found: {held or 'nothing'}): expected named tensors, at the top or under {', '.join(WRAPPERS)}"
            )
    if not found:
        raise CorruptFile(f"{where} holds an empty list of states: get the file again")
    return [{str(name): tensor for name, tensor in state.items()} for state in found]


def unwrap(state: Mapping[str, Tensor], where: str) -> State:
    """The state without the wrappers' prefixes and without robustness' second copy below `attacker.`.

    Raises CorruptFile when the copy differs from the network, or two names become one with different values.
    """
    plain: State = {}
    copies: State = {}
    for key, tensor in state.items():
        name = strip_prefixes(key)
        kept = copies if name.startswith("attacker.") else plain
        name = strip_prefixes(name.removeprefix("attacker."))
        if name in kept and not _same(kept[name], tensor):
            raise CorruptFile(f"{where} holds {name} twice with different values (once as {key}): get the file again")
        kept[name] = tensor
    for name, tensor in copies.items():
        twin = name.replace("normalize.", "normalizer.", 1) if name.startswith("normalize.") else name
        if twin in plain and not _same(plain[twin], tensor):
            raise CorruptFile(f"{where}: attacker.{name} differs from the network's own {twin}, so the file is two networks in one")
        plain.setdefault(twin, tensor)
    return plain


def strip_prefixes(key: str) -> str:
    """`key` without the PREFIXES it starts with, however many; the rest of it stays whole."""
    while prefix := next((p for p in PREFIXES if key.startswith(p)), None):
        key = key.removeprefix(prefix)
    return key


def take_normaliser(state: State, where: str) -> tuple[str, Channels, Channels] | None:
    """The normaliser the state holds, removed from it: (what it was called, mean, std), or None.

    Raises CorruptFile for two that differ (which one counts?), for half of one and for a std that is not above 0.
    """
    found: list[tuple[str, Channels, Channels]] = []
    for names in _BUFFERS:
        held = [name for name in names if name in state]
        if not held:
            continue
        if len(held) == 1:
            raise CorruptFile(f"{where} holds {held[0]} without its partner {(set(names) - set(held)).pop()}: get the file again")
        mean, std = (tuple(state.pop(name).double().flatten().tolist()) for name in names)
        if len(mean) != 3 or len(std) != 3 or not min(std) > 0:
            raise CorruptFile(f"{where}: {' and '.join(names)} are {mean} and {std}: expected 3 channels with std above 0")
        found.append((" and ".join(names), mean, std))
    if len({one[1:] for one in found}) > 1:
        raise CorruptFile(f"{where} holds {len(found)} normalisers that differ ({'; '.join(one[0] for one in found)}): which one counts?")
    return found[0] if found else None


def choose_normaliser(found: tuple[str, Channels, Channels] | None, layout: Layout, dataset: str | None) -> tuple[str, Channels, Channels]:
    """Mean, std and where they are from: the file, else the release, else the data set, given or known from the outputs.

    Raises BadInput when none of them says, or the data set is unknown.
    """
    if dataset is not None and dataset not in NORMALISERS:
        raise BadInput(f"dataset={dataset!r} has no known normaliser; allowed: {', '.join(NORMALISERS)}{nearest(dataset, NORMALISERS)}")
    if found is not None:
        return (f"file ({found[0]})", *found[1:])
    if layout.release is not None:
        return (f"release ({layout.release[0]})", *layout.release[1:])
    if dataset is not None:
        return (f"dataset {dataset}", *NORMALISERS[dataset])
    guess = {1000: "imagenet", 9: "restricted_imagenet"}.get(layout.plan.n_classes) if layout.plan.image_px == 224 else None
    if guess is None:
        raise BadInput(
            f"the file of this {layout.plan.architecture} holds no normaliser: name the one it was trained with by dataset=, "
            f"allowed: {', '.join(NORMALISERS)}"
        )
    return (f"dataset {guess}, known by the {layout.plan.n_classes} outputs", *NORMALISERS[guess])


def recognise(state: Mapping[str, Tensor], is_wrapped: bool, where: str) -> Layout:
    """The layout of an unwrapped state, from its names and shapes; is_wrapped: whether its keys had a wrapper's prefix.

    Raises CorruptFile for an architecture that is none of ours.
    """
    try:
        if "inception3a.branch1.conv.weight" in state:
            return _googlenet(state, is_wrapped)
        if "features.0.weight" in state and "classifier.1.weight" in state:
            return _alexnet(state)
        if "layer1.0.conv1.weight" in state or "stage_1.0.conv_1.weight" in state:
            return _resnet(state)
        if {"0.weight", "2.weight", "5.weight", "7.weight"} <= set(state):
            return _oval(state)
    except (KeyError, IndexError, ValueError) as error:
        raise CorruptFile(f"{where} looks like a known architecture but {error} is missing or misshapen: get the file again") from error
    raise CorruptFile(
        f"{where} holds no architecture known here (its first names: {', '.join(list(state)[:3])}); known are residual networks of "
        "torchvision, MadryLab/robustness and EhanW, AlexNet, GoogLeNet and oval-bab's convolutional network"
    )


def _resnet(state: Mapping[str, Tensor]) -> Layout:
    is_ehanw = "stage_1.0.conv_1.weight" in state
    stage, underscore = ("stage_", "_") if is_ehanw else ("layer", "")
    shortcut = "shortcut" if any(".shortcut." in name for name in state) else "downsample"
    head = "linear" if "linear.weight" in state else "fc"

    def block(s: int, b: int, rest: str) -> str:
        return f"{stage}{s + 1}.{b}.{rest}"

    def conv(s: int, b: int, i: int) -> str:
        return block(s, b, f"conv{underscore}{i + 1}.weight")

    n_blocks: list[int] = []
    while conv(len(n_blocks), 0, 0) in state:
        s = len(n_blocks)
        n_blocks.append(sum(1 for b in range(len(state)) if conv(s, b, 0) in state))
    widths = tuple(state[conv(s, 0, 0)].shape[0] for s in range(len(n_blocks)))
    plan = Plan(
        "resnet",
        state[f"{head}.weight"].shape[0],
        widths,
        tuple(n_blocks),
        conv(0, 0, 2) in state,
        state[f"conv{underscore}1.weight"].shape[2],
    )

    def name_in_file(ours: str) -> str:
        if found := re.fullmatch(r"stem\.(conv|bn)\.(.+)", ours):
            return f"{found[1]}{underscore}1.{found[2]}"
        if found := re.fullmatch(r"stages\.(\d+)\.(\d+)\.(?:convs\.(\d+)|shortcut)\.(conv|bn)\.(.+)", ours):
            s, b, i, kind, rest = found.groups()
            inside = f"{shortcut}.{int(kind == 'bn')}" if i is None else f"{kind}{underscore}{int(i) + 1}"
            return block(int(s), int(b), f"{inside}.{rest}")
        return ours.replace("linear.", f"{head}.", 1)

    return Layout(plan, name_in_file, ("EhanW/advrob-cifar10", *_IMAGENET) if is_ehanw else None)


def _alexnet(state: Mapping[str, Tensor]) -> Layout:
    head = "last_layer" if "last_layer.weight" in state else "classifier.6"
    places = {f"convs.{i}": f"features.{place}" for i, place in enumerate((0, 3, 6, 8, 10))}
    places |= {"dense.0": "classifier.1", "dense.1": "classifier.4", "linear": head}
    widths = tuple(state[f"{place}.weight"].shape[0] for place in list(places.values())[:-1])
    return Layout(Plan("alexnet", state[f"{head}.weight"].shape[0], widths, stem_px=11), _by_place(places))


def _googlenet(state: Mapping[str, Tensor], is_wrapped: bool) -> Layout:
    is_renamed = "inception3a.branch4_conv.conv.weight" in state  # anguyen8/shape-bias

    def name_in_file(ours: str) -> str:
        name = re.sub(r"^linear\.", "fc.", ours).removeprefix("body.")
        return name.replace(".branch4.1.", ".branch4_conv.") if is_renamed else name

    # torchvision's own weights take 2x - 1: its constructor sets transform_input, which the file does not say.
    half = ("torchvision, transform_input", (0.5,) * 3, (0.5,) * 3)
    n_classes = state["fc.weight"].shape[0]
    return Layout(Plan("googlenet", n_classes, stem_px=7), name_in_file, None if is_wrapped else half)


def _oval(state: Mapping[str, Tensor]) -> Layout:
    places = {"convs.0": "0", "convs.1": "2", "dense.0": "5", "linear": "7"}
    widths = tuple(state[f"{place}.weight"].shape[0] for place in ("0", "2", "5"))
    release = ("oval-group/oval-bab", _IMAGENET[0], (0.225,) * 3)
    return Layout(Plan("oval", state["7.weight"].shape[0], widths, stem_px=4), _by_place(places), release)


def _by_place(places: Mapping[str, str]) -> Callable[[str], str]:
    """Our name to the file's, where each module of ours is one of the file's."""

    def name_in_file(ours: str) -> str:
        module, _, parameter = ours.rpartition(".")
        return f"{places[module]}.{parameter}"

    return name_in_file


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)
