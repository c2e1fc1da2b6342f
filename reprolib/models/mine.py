"""A reader's own network, whatever it is, as one that the findings measure beside their arms: named maps, a card, a hash."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Container, Iterator

import torch
from torch import Tensor, nn

from reprolib import store
from reprolib.boundary import Classifier
from reprolib.errors import BadInput
from reprolib.models.layers import eval_mode
from reprolib.models.networks import Network, state_sha256

MINE = "mine"
"""Its role in rows and figures. No claim has an arm of that name, so it takes part in no verdict."""
LEAST_PX = 4  # a side of the last map, whose positions are repeated where there are fewer: the findings' codes have 4 x 4
MOST_MAPS = 32


class Own(Network):
    """A copy of a model from images (n, c, h, w) in [0, 1] to logits (n, classes), without gradients to its weights.

    Maps are those of a `Network`; of any other model what its activation modules give, or, where fewer than two run, every module without
    children: at most `MOST_MAPS` of them, evenly spread, with the last. Tokens (n, t, d) are maps (n, d, t, 1), vectors maps of 1 x 1.
    The gradient through the last ReLU is the model's own.
    """

    def __init__(self, model: nn.Module, x: Tensor, seed: int = 0) -> None:
        """x: a few of the images it is to be measured on. seed: its place among several. Raises BadInput where it cannot take them."""
        name = getattr(model, "architecture", type(model).__name__)
        model = copy.deepcopy(model).eval().requires_grad_(False).to(x.device)
        try:
            with torch.no_grad():
                n_classes = Classifier(model)(x).shape[1]
                found = dict(model.maps(x)) if isinstance(model, Network) else _outputs(model, x)
        except BadInput as error:
            raise BadInput(f"your network {name}: {error}") from error
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            shape, why = f"{x.shape[1]} channels and {x.shape[2]} x {x.shape[3]} px", str(error).strip().splitlines()[0][:160]
            raise BadInput(
                f"your network {name} does not take images of {shape} ({why}): choose a scale with images of its kind"
            ) from error
        names = [*found]
        names = [names[round(k * (len(names) - 1) / (MOST_MAPS - 1))] for k in range(MOST_MAPS)] if len(names) > MOST_MAPS else names
        super().__init__(name, n_classes, found[names[-1]].shape[1], names, (0.0,), (1.0,))
        self.model, self.linear = model, nn.Identity()  # type: ignore[assignment]
        self.sha256 = store.content_key({"model": repr(model), "weights": state_sha256(model.state_dict())})
        described = {"recipe": {"id": MINE}, "architecture": name, "seed": seed}
        self.card = {"name": f"{name}-{MINE}-s{seed}", "description": described, "training": {"precision": "fp32"}}

    def maps(self, x: Tensor, straight_through: bool = False) -> Iterator[tuple[str, Tensor]]:
        """See `Network.maps`."""
        inner = self.model
        for name, value in inner.maps(x, straight_through) if isinstance(inner, Network) else _outputs(inner, x, self.layer_names).items():
            for side in (2, 3) if name == self.layer_names[-1] else ():
                value = value.repeat_interleave(-(-LEAST_PX // value.shape[side]), side)
            if name in self.layer_names:
                yield name, value

    def forward(self, x: Tensor) -> Tensor:
        """The model's logits."""
        return self.model(x)


def _outputs(model: nn.Module, x: Tensor, wanted: Container[str] = ()) -> dict[str, Tensor]:
    """The maps (n, c, h, w) of modules without children, in the order of execution; a module that runs again is "path#2"."""
    found: dict[str, Tensor] = {}
    runs: Counter[str] = Counter()

    def keep(path: str, value: object) -> None:
        runs[path] += 1
        name = path if runs[path] == 1 else f"{path}#{runs[path]}"
        if isinstance(value, Tensor) and value.ndim in (2, 3, 4) and len(value) == len(x) and (not wanted or name in wanted):
            value = value.transpose(1, 2) if value.ndim == 3 else value
            found[name] = value.clone().reshape(*value.shape, *(1,) * (4 - value.ndim))  # a later module may write over it

    leaves = {path: module for path, module in model.named_modules() if path and not any(module.children())}
    handles = [leaf.register_forward_hook(lambda _, __, out, path=path: keep(path, out)) for path, leaf in leaves.items()]
    try:
        with eval_mode(model):
            logits = model(x)
    finally:
        for handle in handles:
            handle.remove()
    if wanted:
        return found
    active = {name: map_ for name, map_ in found.items() if type(leaves[name.partition("#")[0]]).__module__.endswith("activation")}
    others = {name: map_ for name, map_ in found.items() if map_.shape[:2] != logits.shape or not torch.equal(map_.flatten(1), logits)}
    maps = active if len(active) > 1 else others
    if len(maps) < 2:
        raise BadInput(f"{len(maps)} of its modules give features of each image, and at least 2 layers are compared")
    return maps
