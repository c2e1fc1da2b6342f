"""Anybody's checkpoint into anybody's module: the reader says which network it is, the file is sorted out."""

from __future__ import annotations

import importlib
import math
import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from reprolib import store
from reprolib.boundary import Take, own_state
from reprolib.errors import BadInput, nearest
from reprolib.models.checkpoints import files, states
from reprolib.models.checkpoints.loading import load_public
from reprolib.models.grams import refuse_data_parallel
from reprolib.models.networks import ARCHITECTURES, Network, build, state_sha256
from reprolib.models.wrapped import copy_of, device_of, given_normaliser, wrap


@own_state()
def open_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module | str | None = None,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    state: str | None = None,
    logits: Take | None = None,
    allow_pickle: bool = False,
) -> nn.Module:
    """A network from images in [0, 1] to logits, in eval mode and fp32, with the weights of a file; nothing in the file is run.

    model: the module the file was saved from, of which a copy is filled in (itself stays as it is); or "torchvision:resnet18",
    "timm:NAME", or one of ARCHITECTURES; absent, what `load_public` recognises. mean, std: of its normaliser, in units of [0, 1];
    they count more than one in the file or in the module. state: which, where a file has several, e.g. "last", "state_dict_ema".
    logits: where the model gives a tuple or a dict, see `reprolib.wrap`. allow_pickle: also take files with other objects than tensors.
    One line is printed that says what was read, left out and assumed; `.card` of the network holds it.
    Raises MissingData, CorruptFile, and BadInput where file and module do not fit, or the normaliser or the state has to be said.
    """
    if model is None:
        public = load_public(path, mean=mean, std=std, state=state, allow_pickle=allow_pickle)
        member = public.card["members"][0]
        told = "; ".join([member.get("state", "its own file"), *(f"assumed: {words}" for words in member.get("assumed", ()))])
        print(f"{public.card['files'][0]['name']}: {public.architecture}, normaliser of {public.normaliser_source}; {told}")
        return public
    given, file = given_normaliser(mean, std), files.checked(path)
    where = files.said(file, 1000)
    members, told = states.states_of(files.read(file, allow_pickle), where, file.stat().st_size, state)
    if len(members) != 1:
        raise BadInput(f"{where} holds a list of {len(members)} states, an ensemble: leave the model out where load_public knows it")
    name = model if isinstance(model, str) else type(model).__name__
    if isinstance(model, str):
        example, make = _named(model, members[0], where, state)
    else:
        refuse_data_parallel(model)
        example, make = model, partial(copy_of, model)
    wanted = {key: tensor for key, tensor in example.state_dict().items() if isinstance(tensor, torch.Tensor)}
    inside, extra, prefix = _aligned(example, members[0], where, state)
    beyond = {key: inside.pop(key) for key in list(inside) if key not in wanted}
    loose = extra | beyond
    found = states.take_normaliser(loose, where, given is not None)
    own = {f"{path}{one}" for path, _, pair, _ in _normalisers(example) for one in pair}
    for key in own & set(inside):  # (3,) and (1, 3, 1, 1) are the same here
        inside[key] = inside[key].reshape(wanted[key].shape) if inside[key].numel() == wanted[key].numel() else inside[key]
    tensors = states.fitted(
        {key: tensor for key, tensor in wanted.items() if key in inside or key not in own},  # what is missing of it is as in the module
        inside | {key: tensor for key, tensor in beyond.items() if key in loose}, where, name,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        network = make().float().eval().requires_grad_(False)
    network.load_state_dict(tensors, strict=False, assign=True)
    if any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers())):
        raise BadInput(f"{name} has tensors without values, on the meta device, that {where} does not hold: build it on the CPU")
    itself = f"{name} itself" + (", as in the file" if own & set(inside) else "")
    outer = _normalised(network, given or (found[1:] if found else None), given is not None, where, name)
    source = "mean= and std=, as given" if given else f"the file ({found[0]})" if found else itself
    network = network if isinstance(network, Network) else wrap(network, *outer, logits=logits).eval()
    left = [key for key in extra if key in loose]
    network.card = {
        "files": [{"name": files.said(file.name), "sha256": store.sha256_file(file)}], "model": name, "state": told, "prefix": prefix,
        "left_out": left, "normaliser_source": source, "sha256": state_sha256(network.state_dict()),
        "assumed": [f"everything but tensors is as in {name}" + (", built with its defaults" if isinstance(model, str) else "")],
    }  # fmt: skip
    behind = (f" behind {prefix!r}" if prefix else "") + (f", {len(left)} tensors left out ({', '.join(left[:3])})" if left else "")
    print(f"{files.said(file.name)}: {name} from {told}{behind}; normaliser of {source}")
    return network if isinstance(model, str) else network.to(device_of(example))


def _named(name: str, state: states.State, where: str, chosen: str | None) -> tuple[nn.Module, Callable[[], nn.Module]]:
    """An architecture without values, with as many classes as the file has, and what builds it; raises BadInput for an unknown name."""
    library, _, inner = name.rpartition(":")
    if library in ("torchvision", "timm"):
        try:
            models = importlib.import_module("torchvision.models" if library == "torchvision" else "timm")
        except ImportError as error:
            raise BadInput(f"model={name!r} needs {library}, which is not installed here: install it, or give the module itself") from error
        known = models.list_models(module=models) if library == "torchvision" else models.list_models()
        if inner.partition(".")[0] not in known:  # timm's names may end in a tag
            raise BadInput(f"model={name!r} is no classifier of {library}{nearest(inner, known)}")
        create: Callable[..., nn.Module] = partial(getattr(models, "get_model" if library == "torchvision" else "create_model"), inner)
    elif name in ARCHITECTURES:
        unknown = (math.nan,) * 3  # until the file, or the reader, says
        create = partial(build, name, mean=unknown, std=(1.0,) * 3, seed=0, n_classes=10)
    else:
        raise BadInput(
            f"model={name!r} is unknown; allowed: a module, 'torchvision:NAME', 'timm:NAME', {', '.join(ARCHITECTURES)}"
            f"{nearest(name, ARCHITECTURES)}"
        )

    def make(**classes: int) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of initial values, which are not used
            return create(**classes)

    with torch.device("meta"):  # nothing is built before its size is known to be the file's
        example = make()
        last = [key for key, _ in example.named_parameters()][-1]
        inside, _, _ = _aligned(example, state, where, chosen)
        classes = {"num_classes" if library else "n_classes": len(inside[last])} if last in inside and inside[last].dim() else {}
        return make(**classes), partial(make, **classes)


def _aligned(model: nn.Module, state: states.State, where: str, chosen: str | None) -> tuple[states.State, states.State, str]:
    """The state by the model's names, what is left of it, and what stood before its names; a part of the model may be in the file alone."""
    names = {states.bare(name): name for name in model.state_dict()}
    parts = ("", *(states.bare(f"{name}.") for name, _ in model.named_children()))
    found = {part: states.prefixes(state, {n.removeprefix(part) for n in names if n.startswith(part)}) for part in parts}
    part = max(found, key=lambda one: found[one][0])
    prefix = states.one_of(found[part][1], state, where, chosen)
    renamed = {part + key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    extra = {key: tensor for key, tensor in state.items() if not key.startswith(prefix)}
    return {names.get(key, key): tensor for key, tensor in renamed.items()}, extra, prefix


def _normalisers(model: nn.Module) -> list[tuple[str, nn.Module, tuple[str, str], tuple[states.Channels, states.Channels]]]:
    """Modules of a model that have a mean and a std, at most one level down: the prefix of their names, the module, the names, the values.

    One value a channel. Lists on the model itself are left out: some libraries note there what a caller has to do.
    """
    found = []
    for path, module in model.named_modules():
        for pair in states.PAIRS if path.count(".") < 2 else ():
            mean, std = (states.numbers(getattr(module, one, None)) for one in pair)
            is_used = path or isinstance(getattr(module, pair[0], None), torch.Tensor)
            if is_used and mean is not None and std is not None and len(mean) == len(std) and (len(mean) > 1 or _n_channels(model) == 1):
                found.append((f"{path}." if path else "", module, pair, (mean, std)))
    return found


def _n_channels(model: nn.Module) -> int:
    """Of the images that go into the first convolution; 3 where there is none."""
    return next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3)


def _normalised(
    network: nn.Module, values: tuple[Sequence[float], Sequence[float]] | None, is_given: bool, where: str, name: str
) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and std of what goes before the network: 0 and 1 where it normalises by itself, by a module that is set to the values.

    Raises BadInput where none are known, or the file's are others than the module's.
    """
    own = _normalisers(network)
    known = [held for *_, held in own if all(map(math.isfinite, held[0]))]
    if values is None and not known:
        raise BadInput(
            f"neither {where} nor {name} holds a normaliser: give mean= and std=, a value a channel in units of [0, 1], those of its "
            "training; mean=(0, 0, 0), std=(1, 1, 1) where it takes pixels as they are"
        )
    wanted = values or known[0]
    given_normaliser(*wanted)
    if not is_given and any(
        max(abs(a - b) for a, b in zip((*one[0], *one[1]), (*wanted[0], *wanted[1]), strict=False)) > 1e-4 for one in known
    ):
        raise BadInput(f"{where} and {name} hold normalisers that differ, {wanted} and {known}: say which one counts by mean=, std=")
    for path, module, pair, held in own:
        if len(held[0]) != len(wanted[0]):
            raise BadInput(f"the normaliser {path}{pair[0]} of {name} has {len(held[0])} values, mean and std {len(wanted[0])}")
        for attribute, numbers in zip(pair, wanted, strict=True):
            old = getattr(module, attribute)
            if isinstance(old, torch.Tensor):
                old.data = torch.tensor(numbers, dtype=torch.float32).view(old.shape)
            else:
                setattr(module, attribute, type(old)(numbers))
    n_channels = len(wanted[0]) if len(wanted[0]) > 1 else _n_channels(network)
    return ((0.0,) * n_channels, (1.0,) * n_channels) if own else wanted
