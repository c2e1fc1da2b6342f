"""What is kept of every layer during one forward pass, taken the moment the layer has run: by default its Gram matrix.

A layer's output is reduced inside the hook, before an in-place ReLU or addition can overwrite it, and is then let go, so
memory grows with layers x n^2. Used by block structure; anything that can be said of one layer at a time fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn

from reprolib.boundary import checked_images, fitting, own_state
from reprolib.errors import BadInput, nearest
from reprolib.measures.cka import MinibatchCKA
from reprolib.measures.gram import full_precision, gram
from reprolib.models.layers import eval_mode
from reprolib.models.networks import Network

PIXELS = "pixels"
"""The images themselves, as a layer."""
POOLED = "pooled"
"""The last post-activation map of a `Network`, averaged over its positions."""
LAYER_SETS = ("activations", "blocks")
WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)

T = TypeVar("T")


def layer_set(network: Network, name: str = "activations") -> tuple[str, ...]:
    """Names of the layers to compare, in execution order.

    "activations": every post-activation map and the pooled features; "blocks": stem and block outputs instead of all maps.
    """
    if name not in LAYER_SETS:
        raise BadInput(f"layer set {name!r} is unknown; allowed: {', '.join(LAYER_SETS)}{nearest(name, LAYER_SETS)}")
    maps = network.layer_names
    if name == "blocks":
        last = {layer.rpartition(".")[0]: layer for layer in maps}  # of several maps of a block the last one stays
        maps = tuple(layer for layer in maps if "." not in layer or last[layer.rpartition(".")[0]] == layer)
    return (*maps, POOLED)


@overload
def collect(model: nn.Module, x: Tensor, layers: Sequence[str] | None = None) -> dict[str, Tensor]: ...
@overload
def collect(model: nn.Module, x: Tensor, layers: Sequence[str] | None = None, *, reduce: Callable[[Tensor], T]) -> dict[str, T]: ...
@own_state()
def collect(model: nn.Module, x: Tensor, layers: Sequence[str] | None = None, *, reduce: Callable[[Tensor], Any] = gram) -> dict[str, Any]:
    """Reduce the output of each layer in one forward pass over images x (n, c, h, w) in [0, 1]; keys in execution order.

    layers: names of modules, and of a `Network` also those of its post-activation maps and "pooled"; "pixels" is x itself.
    Absent: `layer_set` of a `Network`; of any other model every module without children that runs, and gives floating point
    numbers with a row an image. A module that runs again is "name#2", "name#3".
    reduce: takes (n, ...), by default to the centred Gram (n, n); it must keep no view of what it is given.
    A `Network` runs no further than the last layer asked for. Eval mode, without gradients, autocast or TF32; modes and hooks
    are as before afterwards, also after an error. Raises BadInput for images outside [0, 1], unknown layers, layers asked for
    that never ran or have no row an image, and data-parallel wrappers.
    """
    x = checked_images(x).detach()
    refuse_data_parallel(model)
    maps = (*model.layer_names, POOLED) if isinstance(model, Network) and model.layer_names else ()
    paths = dict(model.named_modules())
    is_asked = layers is not None or bool(maps)
    if layers is None:
        layers = maps or [path for path, module in paths.items() if path and not any(module.children())]
    wanted, allowed = set(layers), (PIXELS, *maps, *(path for path in paths if path))
    for name in layers:
        if name not in allowed:
            raise BadInput(f"layer {name!r} is unknown; allowed: {', '.join(allowed)}{nearest(name, allowed)}")
    found: dict[str, Any] = {}
    runs: dict[str, int] = {}

    def keep(name: str, value: Any) -> None:
        if why := _no_rows(value, len(x)):
            if is_asked:
                raise BadInput(f"layer {name} gives {why}: name the modules inside it")
            return
        runs[name] = runs.get(name, 0) + 1
        found[name if runs[name] == 1 else f"{name}#{runs[name]}"] = reduce(value)

    handles = []
    try:
        with eval_mode(model), torch.no_grad(), full_precision(), fitting(model, x):
            for path in wanted - {PIXELS, *maps}:
                handles.append(paths[path].register_forward_hook(lambda module, given, value, path=path: keep(path, value)))
            if PIXELS in wanted:
                keep(PIXELS, x)
            if isinstance(model, Network) and maps:
                _run_maps(model, x, wanted, found, keep)
            else:
                model(x.clone())  # it may write over them
    finally:
        for handle in handles:
            handle.remove()
    missed = sorted(wanted - set(found))
    if missed and is_asked:
        raise BadInput(f"layer {missed[0]} did not run in the forward pass: leave it out, or name a module that does")
    if not found:
        raise BadInput(f"no module of this {type(model).__name__} gives a tensor with a row an image: name layers that do")
    return found


def minibatch_cka(
    model: nn.Module,
    batches: Iterable[Tensor],
    other: nn.Module | None = None,
    layers: Sequence[str] | None = None,
    reduce: Callable[[Tensor], Tensor] = gram,
) -> MinibatchCKA:
    """CKA of all layers of a model, or between two models on the same images; batches: images (n, c, h, w) in [0, 1].

    reduce: from a layer's output to its Gram. Raises BadInput when there is no batch, or when a batch
    runs through other layers than the first.
    """
    found: MinibatchCKA | None = None
    for x in batches:
        grams = collect(model, x, layers, reduce=reduce)
        others = None if other is None else collect(other, x, layers, reduce=reduce)
        if found is None:
            sizes = (len(grams), None if others is None else len(others))
            found = MinibatchCKA(*sizes, names_x=[*grams], names_y=None if others is None else [*others])
        found.update_grams([*grams.values()], None if others is None else [*others.values()])
    if found is None:
        raise BadInput("there is no batch of images: give at least one")
    return found


def refuse_data_parallel(model: nn.Module) -> None:
    """Raise BadInput for a model that is, or holds, a data-parallel wrapper."""
    for path, module in model.named_modules():
        if isinstance(module, WRAPPERS):
            where = f" at {path!r}" if path else ""
            raise BadInput(f"{type(module).__name__}{where} splits batches over devices and mixes their order: give its .module")


def spatial_mean(x: Tensor) -> Tensor:
    """A layer's output (n, c, ...) averaged over its positions, (n, c): the pooled variant, and what Procrustes compares."""
    return x.flatten(2).mean(dim=2) if x.ndim > 2 else x.clone()


def _no_rows(value: object, n: int) -> str:
    """What a layer gives that is no batch of n examples' features, in words; empty where it is one."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}, not a tensor"
    if not value.is_floating_point() or value.ndim < 2 or len(value) != n:
        return f"{value.dtype} of shape {tuple(value.shape)}, not floating point features with a row for each of {n} images"
    return ""


def _run_maps(network: Network, x: Tensor, wanted: set[str], found: Mapping[str, Any], keep: Callable[[str, object], None]) -> None:
    """Every map is reduced before the network runs on, and it runs no further than what is wanted.

    Channels lie last in memory, which convolutions like and Grams do not mind.
    """
    last = x
    for name, last in network.maps(x.contiguous(memory_format=torch.channels_last)):
        if name in wanted:
            keep(name, last)
        if wanted <= found.keys():
            return
    if POOLED in wanted:
        keep(POOLED, last.mean(dim=(2, 3)))
    network.linear(last.mean(dim=(2, 3)))  # a hook on it may be waiting
