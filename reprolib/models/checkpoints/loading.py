"""Networks that others trained, checked and ready to measure: images in [0, 1] in, logits out."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from reprolib import store
from reprolib.boundary import Classifier, checked_images, checked_labels
from reprolib.errors import BadInput, CorruptFile, MissingData, nearest
from reprolib.models.checkpoints import files, layouts, states
from reprolib.models.networks import Network, Normaliser, build, weights_sha256
from reprolib.models.public_networks import Ensemble, build_public, plan_of
from reprolib.models.wrapped import given_normaliser

FORMAT = "reprolib public network 2"
"""Written into every card of `convert`; the number changes when its meaning does."""

PathLike = str | os.PathLike[str]


class ExpectedAccuracy(NamedTuple):
    """Images (n, 3, h, w) in [0, 1] with labels (n,), and the share of them the network must get right, give or take."""

    x: Tensor
    y: Tensor
    value: float
    tolerance: float


def load_public(
    path: PathLike | Sequence[PathLike],
    architecture: str | None = None,
    dataset: str | None = None,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    state: str | None = None,
    allow_pickle: bool = False,
    sha256: str | Sequence[str] | None = None,
    accuracy: ExpectedAccuracy | None = None,
) -> Network:
    """A public network in eval mode, fp32, without gradients to its weights, its normaliser inside: images in [0, 1].

    path: a file, or the files of an ensemble. architecture: what is expected; the file's shapes decide, and a difference is
    refused. mean, std: its normaliser, in units of [0, 1], whatever else says. dataset: whose normaliser is used where the file holds
    none. state: which of several states in the file is read. sha256: the file's (or files') known one.
    The network carries `normaliser_source` (where the normaliser is from), `sha256` (of its weights) and `card`, whose members say what
    was read and what was assumed, as tensors do not say it; without a known sha256 `card["is_verified"]` is False: such a network
    proves that reading works, it gives no verdict.
    Raises MissingData, CorruptFile, BadInput.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    known = [None] * len(paths) if sha256 is None else [sha256] if isinstance(sha256, str) else list(sha256)
    if not paths or len(known) != len(paths):
        raise BadInput(f"{len(known)} sha256 are given for {len(paths)} files: give one a file, and at least one file")
    given = given_normaliser(mean, std)
    if accuracy is not None:
        x, y = checked_images(accuracy.x), checked_labels(accuracy.y, len(accuracy.x))
        if not 0 <= accuracy.value <= 1 or not 0 <= accuracy.tolerance <= 1:
            raise BadInput(f"expected accuracy {accuracy.value} +- {accuracy.tolerance} is not allowed: give shares, in [0, 1]")
        accuracy = ExpectedAccuracy(x, y, *accuracy[2:])
    found = [files.checked(one, digest) for one, digest in zip(paths, known, strict=True)]
    members = [member for one in found for member in _members(one, dataset, given, state, allow_pickle)]
    network = members[0] if len(members) == 1 else _ensemble(members)
    if architecture is not None and network.architecture != architecture:
        raise BadInput(
            f"architecture={architecture!r} is not what {files.said(found[0].name)} holds: its shapes are those of {network.architecture!r}"
            f"{nearest(architecture, [network.architecture])}"
        )
    network.eval().requires_grad_(False)
    network.sha256 = weights_sha256(network)
    origin = [{"name": files.said(one.name), "sha256": store.sha256_file(one)} for one in found]
    is_verified = sha256 is not None or bool(network.card.get("is_verified"))  # of the original, where it was converted
    network.card = {"files": origin} | network.card | {"is_verified": is_verified, "sha256": network.sha256}
    _check(network, files.said(found[0], 1000), accuracy)
    return network


def convert(path: PathLike | Sequence[PathLike], output: PathLike, **options: Any) -> Path:
    """Write a public checkpoint as safetensors, with a JSON card beside it; returns the path of the tensors.

    output: ends in .safetensors. options: those of `load_public`, which also reads what is written here.
    """
    target = Path(output)
    if target.suffix != ".safetensors":
        raise BadInput(f"output={str(target)!r} must end in .safetensors; did you mean {str(target.with_suffix('.safetensors'))!r}?")
    network = load_public(path, **options)
    return store.write_network(target, network.state_dict(), network.card, {"format": FORMAT, "sha256": network.sha256})


def _members(
    path: Path, dataset: str | None, given: tuple[Sequence[float], Sequence[float]] | None, chosen: str | None, allow_pickle: bool
) -> list[Network]:
    """The networks of one file; more than one where it is an ensemble."""
    where, content = files.said(path, 1000), files.read(path, allow_pickle)
    if path.suffix == ".safetensors" and "card" in store.read_safetensors(path, is_ours=False)[1]:
        if given is not None:
            raise BadInput(f"{where} is a network of this project's, whose normaliser is in it: leave mean= and std= out")
        return [_ours(path)]
    made = []
    members, told = states.states_of(content, where, path.stat().st_size, chosen)
    for state in members:
        found = states.take_normaliser(state, where, given is not None)
        layout, plain = layouts.recognise(state, where, chosen)
        source, mean, std = layouts.choose_normaliser(found, layout, dataset, given)
        if len(mean) != 3:
            raise BadInput(f"{where}: its normaliser ({source}) has {len(mean)} channels, its network 3: give mean=, std=")
        network = build_public(layout.plan)
        network.normaliser = Normaliser(mean, std)
        wanted = {layout.name_in_file(n): t for n, t in network.state_dict().items() if not n.startswith("normaliser.")}
        tensors = states.fitted(wanted, plain, where, network.architecture)
        ours = {n: tensors[layout.name_in_file(n)] for n in network.state_dict() if not n.startswith("normaliser.")}
        network.load_state_dict(ours, strict=False, assign=True)  # all but the normaliser
        made.append(_described(network, layout.plan.describe(), source, {"state": told, "assumed": layout.plan.assumed}))
    return made


def _ours(path: Path) -> Network:
    """The network of a file that `convert` or our own training wrote, by the card beside it."""
    card_path = path.with_suffix(".json")
    if not card_path.is_file():
        raise MissingData(f"{card_path} is not there: a network of this project's is read by the card beside it")
    tensors, card = store.read_network(path)
    try:
        if card.get("format") != FORMAT:  # a network of our own training
            plan = {
                "architecture": card["description"]["architecture"],
                "n_classes": tensors["linear.bias"].shape[0],
                "n_channels": tensors["normaliser.mean"].numel(),
                "image_px": card.get("image_px", 32),  # cards of before it was written down are of CIFAR-10 and ShapeTex
            }
            card["members"] = [{"plan": plan, "normaliser_source": "file (normaliser)"}]
        members = [_described(_built(one["plan"]), one["plan"], one["normaliser_source"], one) for one in card["members"]]
        network = members[0] if len(members) == 1 else _ensemble(members)
        network.load_state_dict(states.fitted(network.state_dict(), tensors, str(path), network.architecture), assign=True)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:160]
        raise CorruptFile(f"{path} or its card {card_path.name} cannot be read ({reason}): convert or train it again") from error
    digest = weights_sha256(network)
    if card.get("sha256") != digest:
        raise CorruptFile(
            f"{path}: the weights' sha256 {digest[:12]} is not the card's {str(card.get('sha256'))[:12]}: convert or train it again"
        )
    network.card = card | network.card
    return network


def _built(plan: Mapping[str, Any]) -> Network:
    """The network of a card's plan, public or of our own training."""
    if "family" in plan:
        return build_public(plan_of(plan))
    channels = plan["n_channels"]
    return build(plan["architecture"], plan["n_classes"], (0.0,) * channels, (1.0,) * channels, seed=0)


def _described(network: Network, plan: Mapping[str, Any], source: str, told: Mapping[str, Any]) -> Network:
    """The network with what its card will say of it."""
    member = {**told, "architecture": network.architecture, "plan": dict(plan), "normaliser_source": source}
    network.card = {"format": FORMAT, "members": [member]}
    network.normaliser_source = source
    return network


def _ensemble(networks: Sequence[Network]) -> Network:
    """The ensemble of the networks, or of their members where one is an ensemble itself: each has one vote."""
    network = Ensemble([m for one in networks for m in (cast(list[Network], one.members) if isinstance(one, Ensemble) else [one])])
    described = [member for one in networks for member in one.card["members"]]
    network.card = {"format": FORMAT, "members": described}
    network.normaliser_source = "; ".join(dict.fromkeys(one["normaliser_source"] for one in described))
    return network


def _check(network: Network, path: str, accuracy: ExpectedAccuracy | None) -> None:
    """The canary: logits of two images are finite, and the expected accuracy is met where one is given."""
    plan = network.card["members"][0]["plan"]
    side = plan_of(plan).image_px if "family" in plan else plan["image_px"]
    canary = torch.rand((2, plan.get("n_channels", 3), side, side), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network(canary)
    if not torch.isfinite(logits).all():
        raise CorruptFile(f"{path}: the {network.architecture} in it gives logits that are not finite: its weights are damaged")
    if accuracy is not None:
        with torch.no_grad():
            classifier = Classifier(network, accuracy.y)
            predicted = torch.cat([classifier(part).argmax(dim=1) for part in accuracy.x.split(500)])
        measured = (predicted == accuracy.y).float().mean().item()
        if not math.fabs(measured - accuracy.value) <= accuracy.tolerance:
            raise CorruptFile(
                f"{path} gets {measured:.3f} of {len(accuracy.y)} images right, expected {accuracy.value:.3f} +- {accuracy.tolerance:.3f}: "
                f"another network or another normaliser than {network.normaliser_source}"
            )
