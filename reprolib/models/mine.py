"""A reader's own network, whatever it is, as one that the findings measure beside their arms: named maps, a card, a hash."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Container, Iterator

import torch
from torch import Tensor, nn

from reprolib import store
from reprolib.boundary import Classifier
from reprolib.errors import BadInput
from reprolib.models.networks import MINE, Network, state_sha256
from reprolib.models.wrapped import copy_of

LEAST_PX = 4  # a side of the last map, whose positions are repeated where there are fewer: the findings' codes have 4 x 4
MOST_MAPS = 32


class Own(Network):
    """A copy of a model from images (n, c, h, w) in [0, 1] to logits (n, classes), in eval mode, without gradients to its weights.

    Maps are those of a `Network`; of any other model what its activation modules give, or, where fewer than two run, every module without
    children but the last: at most `MOST_MAPS`, evenly spread. Tokens (n, t, d) are maps (n, d, t, 1), vectors maps of 1 x 1, and
    channels that lie last come first. The gradient through the last ReLU of such a model is its own.
    """

    has_classes: bool
    """Whether it has as many classes as the images: without them it is left out where labels matter."""

    def __init__(self, model: nn.Module, x: Tensor, n_classes: int, seed: int = 0) -> None:
        """x, n_classes: of the images it is asked about. seed: its place among several. Raises BadInput where it does not take them."""
        name, shape = getattr(model, "architecture", type(model).__name__), f"{x.shape[1]} channels and {x.shape[2]} x {x.shape[3]} px"
        model = copy_of(model).eval().requires_grad_(False).to(x.device)
        try:
            with torch.no_grad():
                n_logits, found = Classifier(model)(x).shape[1], dict(_maps(model, x))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            why = str(error).strip().partition("\n")[0]
            raise BadInput(f"your network {name} does not take images of {shape}, those of this scale: {why}") from error
        active = [path for path in found if type(dict(model.named_modules()).get(path.partition(" ")[2])).__module__.endswith("activation")]
        paths = [*found] if isinstance(model, Network) else active if len(active) > 1 else [*found][:-1]
        if len(paths) < 2:
            raise BadInput(f"your network {name} has {len(paths)} layers inside that give features of each image: at least 2 are compared")
        paths = paths[:: -len(paths) // MOST_MAPS][::-1]  # from the last one back
        super().__init__(name, n_logits, found[paths[-1]].shape[1], paths, (0.0,), (1.0,))
        self.has_classes, self.model, self.linear = n_logits == n_classes, model, nn.Identity()  # type: ignore[assignment]
        self.sha256 = store.content_key({"model": repr(model), "weights": state_sha256(model.state_dict())})
        described = {"recipe": {"id": MINE}, "architecture": name, "seed": seed}
        self.card = {"name": f"{name}-{MINE}-s{seed}", "description": described, "training": {"precision": "fp32"}}

    def maps(self, x: Tensor, straight_through: bool = False) -> Iterator[tuple[str, Tensor]]:
        """See `Network.maps`."""
        for name, value in _maps(self.model, x, straight_through, self.layer_names):
            for side in (2, 3) if name == self.layer_names[-1] else ():
                value = value.repeat_interleave(-(-LEAST_PX // value.shape[side]), side)
            if name in self.layer_names:
                yield name, value

    def forward(self, x: Tensor) -> Tensor:
        """The model's logits."""
        return self.model(x)


def _maps(
    model: nn.Module, x: Tensor, straight_through: bool = False, wanted: Container[str] | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Maps (n, c, h, w) of a `Network`, or of modules without children, by "<number of the call> <path>", in the order of execution."""
    if isinstance(model, Network):
        yield from model.maps(x, straight_through)
        return
    found: dict[str, Tensor] = {}
    calls = itertools.count()

    def keep(path: str, value: object) -> None:
        name = f"{next(calls)} {path}"
        if isinstance(value, Tensor) and value.ndim in (2, 3, 4) and len(value) == len(x) and (wanted is None or name in wanted):
            is_last = value.ndim == 3 or (value.ndim == 4 and value.shape[1] == value.shape[2] != value.shape[3])  # where channels are
            value = value.clone().movedim(-1, 1) if is_last else value.clone()  # a later module may write over it
            found[name] = value.reshape(*value.shape, *(1,) * (4 - value.ndim))

    with contextlib.ExitStack() as hooks:
        for path, leaf in model.named_modules():
            if path and not any(leaf.children()):
                hooks.callback(leaf.register_forward_hook(lambda _, __, out, path=path: keep(path, out)).remove)
        model(x)
    yield from found.items()
