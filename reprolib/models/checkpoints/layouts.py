"""From the names and shapes of a state to one of our public networks, and its normaliser.

The layouts are those of MadryLab/robustness, madrylab/robust-imagenet-models, anguyen8/shape-bias, RobustBench, torchvision,
EhanW/advrob-cifar10 and oval-group/oval-bab. Everything here is a function of plain dictionaries; no file is touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from reprolib.errors import BadInput, nearest
from reprolib.models.checkpoints.states import Channels, Found, State, one_of, prefixes
from reprolib.models.public_networks import Plan

OWN_MODULE = "give the module it was saved from, reprolib.open_checkpoint(path, model)"

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

NORMALISERS: dict[str, tuple[Channels, Channels]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),  # MadryLab/robustness
    "cifar10_all_pixels": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),  # shashankkotyan/RepresentationMetrics, ours
    "imagenet": _IMAGENET,
    "restricted_imagenet": ((0.4717, 0.4499, 0.3837), (0.2600, 0.2516, 0.2575)),  # MadryLab/robustness
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),  # the mean and spread of its training images
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


def choose_normaliser(
    found: Found | None, layout: Layout, dataset: str | None, given: tuple[Sequence[float], Sequence[float]] | None = None
) -> Found:
    """Where the normaliser is from, mean and std: what is given, else the file, else the data set, else the release or a guess.

    Raises BadInput when none of them says, or the data set is unknown.
    """
    if dataset is not None and dataset not in NORMALISERS:
        raise BadInput(f"dataset={dataset!r} has no known normaliser; allowed: {', '.join(NORMALISERS)}{nearest(dataset, NORMALISERS)}")
    if given is not None:
        return ("given (mean=, std=)", tuple(given[0]), tuple(given[1]))
    if found is not None:
        return (f"file ({found[0]})", *found[1:])
    if dataset is not None:
        return (f"dataset {dataset}", *NORMALISERS[dataset])
    if layout.release is not None:
        return (f"release ({layout.release[0]})", *layout.release[1:])
    guess = {1000: "imagenet", 9: "restricted_imagenet"}.get(layout.plan.n_classes) if layout.plan.image_px == 224 else None
    if guess is None:
        raise BadInput(
            f"the file of this {layout.plan.architecture} holds no normaliser: give mean=, std= in units of [0, 1], or the data set it was "
            f"trained with by dataset=, allowed: {', '.join(NORMALISERS)}"
        )
    return (f"dataset {guess}, known by the {layout.plan.n_classes} outputs", *NORMALISERS[guess])


def recognise(state: State, where: str, chosen: str | None = None) -> tuple[Layout, State]:
    """The layout of a state, from its names and shapes, and the state without the prefix before its names.

    chosen: a part of that prefix, where there are several. Raises BadInput for an architecture that is none of ours.
    """
    for anchors, layout in _LAYOUTS.items():
        n, allowed = prefixes(state, anchors)
        if n == len(anchors):
            prefix = one_of(allowed, state, where, chosen)
            plain = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
            try:
                found = layout(plain)
                return (replace(found, release=None) if prefix and found.plan.family == "googlenet" else found), plain
            except (KeyError, IndexError, ValueError) as error:
                reason = f"looks like a known architecture but {error} is missing or misshapen"
                raise BadInput(f"{where} {reason}: {OWN_MODULE}") from error
    raise BadInput(
        f"{where} holds no architecture known here (its first names: {', '.join(list(state)[:3])}); known are residual networks of "
        f"torchvision, MadryLab/robustness and EhanW, AlexNet, GoogLeNet and oval-bab's convolutional network: {OWN_MODULE}"
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


def _googlenet(state: Mapping[str, Tensor]) -> Layout:
    is_renamed = "inception3a.branch4_conv.conv.weight" in state  # anguyen8/shape-bias

    def name_in_file(ours: str) -> str:
        name = re.sub(r"^linear\.", "fc.", ours).removeprefix("body.")
        return name.replace(".branch4.1.", ".branch4_conv.") if is_renamed else name

    # torchvision's own weights take 2x - 1: its constructor sets transform_input, which the file does not say.
    half = ("torchvision, transform_input", (0.5,) * 3, (0.5,) * 3)
    n_classes = state["fc.weight"].shape[0]
    return Layout(Plan("googlenet", n_classes, stem_px=7), name_in_file, half)


def _oval(state: Mapping[str, Tensor]) -> Layout:
    places = {"convs.0": "0", "convs.1": "2", "dense.0": "5", "linear": "7"}
    widths = tuple(state[f"{place}.weight"].shape[0] for place in ("0", "2", "5"))
    release = ("oval-group/oval-bab", _IMAGENET[0], (0.225,) * 3)
    return Layout(Plan("oval", state["7.weight"].shape[0], widths, stem_px=4), _by_place(places), release)


_LAYOUTS: dict[tuple[str, ...], Callable[[Mapping[str, Tensor]], Layout]] = {
    ("inception3a.branch1.conv.weight",): _googlenet,
    ("features.0.weight", "classifier.1.weight"): _alexnet,
    ("layer1.0.conv1.weight",): _resnet,
    ("stage_1.0.conv_1.weight",): _resnet,
    ("0.weight", "2.weight", "5.weight", "7.weight"): _oval,
}
"""Names that all have to be there, and whose they are."""


def _by_place(places: Mapping[str, str]) -> Callable[[str], str]:
    """Our name to the file's, where each module of ours is one of the file's."""

    def name_in_file(ours: str) -> str:
        module, _, parameter = ours.rpartition(".")
        return f"{places[module]}.{parameter}"

    return name_in_file
