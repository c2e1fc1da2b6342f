"""Anybody's checkpoint into anybody's module: the reader says which network it is, the file is sorted out."""

from __future__ import annotations

import copy
import importlib
import math
import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from reprolib import store
from reprolib.boundary import Take, own_state
from reprolib.errors import BadInput, nearest
from reprolib.models.checkpoints import files, states
from reprolib.models.checkpoints.loading import load_public
from reprolib.models.grams import refuse_data_parallel
from reprolib.models.networks import ARCHITECTURES, Network, build, state_sha256
from reprolib.models.wrapped import device_of, given_normaliser, wrap


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
        told = "; ".join(str(public.card["members"][0].get(name, "")) for name in ("state", "assumed"))
        print(f"{public.card['files'][0]['name']}: {public.architecture}, normaliser of {public.normaliser_source}, {told}")
        return public
    given, file = given_normaliser(mean, std), files.checked(path)
    where = files.said(file, 1000)
    members, told = states.states_of(files.read(file, allow_pickle), where, file.stat().st_size, state)
    if len(members) != 1:
        raise BadInput(f"{where} holds a list of {len(members)} states, an ensemble: leave the model out where load_public knows it")
    if isinstance(model, str):
        example, make, name = *_named(model, members[0], where, state), model
    else:
        refuse_data_parallel(model)
        example, make, name = model, lambda: copy.deepcopy(model), type(model).__name__
    wanted = {key: tensor for key, tensor in example.state_dict().items() if isinstance(tensor, torch.Tensor)}
    inside, extra, prefix = _aligned(example, members[0], where, state)
    extra |= {key: tensor for key, tensor in inside.items() if key not in wanted}
    found = given or states.take_normaliser(extra, where)
    if given is not None:
        states.take_normaliser(extra, where, is_given=True)
    inside = {key: tensor for key, tensor in inside.items() if key in wanted or key in extra}
    own = {f"{path}{one}" for path, _, pair, _ in _normalisers(example) for one in pair} - set(inside)  # stay as they are in the module
    tensors = states.fitted({key: tensor for key, tensor in wanted.items() if key not in own}, inside, where, name)
    with torch.random.fork_rng(devices=[]):
        network = make().float().eval().requires_grad_(False)
    network.load_state_dict(tensors, strict=False, assign=True)
    if any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers())):
        raise BadInput(f"{name} has tensors on the meta device, without values, that {where} does not hold: build it on the CPU")
    source, outer = _normalised(network, found, given is not None, where, name)
    network = network if isinstance(network, Network) else wrap(network, *outer, logits=logits)
    left = [key for key in extra if key not in inside]
    network.card = {
        "files": [{"name": files.said(file.name), "sha256": store.sha256_file(file)}], "model": name, "state": told, "prefix": prefix,
        "left_out": left, "normaliser_source": source, "sha256": state_sha256(network.state_dict()),
        "assumed": [f"everything but tensors is as in {name}" + ("" if isinstance(model, nn.Module) else ", built with its defaults")],
    }  # fmt: skip
    others = f", {len(left)} other tensors left out ({', '.join(left[:3])})" if left else ""
    behind = f" behind {prefix!r}" if prefix else ""
    print(f"{files.said(file.name)}: {name} from {told}{behind}{others}; normaliser of {source}")
    return network.to(device_of(example)) if isinstance(model, nn.Module) else network


def _named(name: str, state: states.State, where: str, chosen: str | None) -> tuple[nn.Module, Callable[[], nn.Module]]:
    """An architecture without values, with as many classes as the file has, and what builds it; raises BadInput for an unknown name."""
    library, _, inner = name.rpartition(":")
    if library == "torchvision":
        models = importlib.import_module("torchvision.models")
        if inner not in models.list_models(module=models):
            raise BadInput(f"model={name!r} is no classifier of torchvision.models{nearest(inner, models.list_models(module=models))}")
        create: Callable[..., nn.Module] = partial(models.get_model, inner, weights=None)
    elif library == "timm":
        try:
            timm = importlib.import_module("timm")
        except ImportError as error:
            raise BadInput(f"model={name!r} needs timm, which is not installed here: install it, or give the module itself") from error
        if not timm.is_model(inner):
            raise BadInput(f"model={name!r} is no model of timm{nearest(inner, timm.list_models())}")
        create = partial(timm.create_model, inner, pretrained=False)
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
    parts = {part: {name.removeprefix(part) for name in names if name.startswith(part)} for part in _parts(model)}
    found = {part: states.prefixes(state, inner) for part, inner in parts.items()}
    part = max(found, key=lambda one: found[one][0])
    prefix = states.one_of(found[part][1], state, where, chosen)
    renamed = {part + key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    extra = {key: tensor for key, tensor in state.items() if not key.startswith(prefix)}
    return {names.get(key, key): tensor for key, tensor in renamed.items()}, extra, prefix


def _parts(model: nn.Module) -> list[str]:
    return ["", *(states.bare(f"{name}.") for name, _ in model.named_children())]


Own = tuple[str, nn.Module, tuple[str, str], tuple[states.Channels, states.Channels]]


def _normalisers(model: nn.Module) -> list[Own]:
    """Modules of a model that have a mean and a std, at most one level down: the prefix of their names, the module, the names, the values."""
    found = []
    for path, module in model.named_modules():
        for pair in states.PAIRS if path.count(".") < 2 else ():
            mean, std = (states.numbers(getattr(module, one, None)) for one in pair)
            if mean is not None and std is not None and len(mean) == len(std):
                found.append((f"{path}." if path else "", module, pair, (mean, std)))
    return found


def _normalised(
    network: nn.Module, found: tuple[Any, ...] | None, is_given: bool, where: str, name: str
) -> tuple[str, tuple[Sequence[float], Sequence[float]]]:
    """Where the normaliser is from, and what goes before the network: nothing (0, 1) where the network has one, which is set to that.

    Raises BadInput where none is known, or the file's is another than the module's.
    """
    own = _normalisers(network)
    known = [values for *_, values in own if all(map(math.isfinite, values[0]))]
    values = None if found is None else (tuple(found[-2]), tuple(found[-1]))
    source = "mean= and std=, as given" if is_given else f"the file ({found[0]})" if found else f"{name} itself"
    if values is None and not known:
        raise BadInput(
            f"neither {where} nor {name} holds a normaliser: give mean= and std=, a value a channel in units of [0, 1], those of its "
            "training; mean=(0, 0, 0), std=(1, 1, 1) where it takes pixels as they are"
        )
    wanted = values or known[0]
    given_normaliser(*wanted)
    if not is_given and any(not torch.allclose(torch.tensor(one), torch.tensor(wanted), atol=1e-4) for one in known):
        raise BadInput(f"{where} and {name} hold normalisers that differ, {wanted} and {known}: say which one counts by mean=, std=")
    for path, module, pair, old in own:
        for attribute, one, before in zip(pair, wanted, old, strict=True):
            if len(one) != len(before):
                raise BadInput(f"the normaliser {path}{attribute} of {name} has {len(before)} values, mean and std {len(one)}")
            held = getattr(module, attribute)
            if isinstance(held, torch.Tensor):
                held.data = torch.tensor(one).view(held.shape)
            else:
                setattr(module, attribute, type(held)(one))
    n_channels = next((weight.shape[1] for weight in network.parameters() if weight.dim() == 4), len(wanted[0]))
    return source, ((0.0,) * n_channels, (1.0,) * n_channels) if own else wanted
