"""A module of anybody's as a network from images in [0, 1] to logits."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reprolib.boundary import Classifier, Take
from reprolib.errors import BadInput
from reprolib.models.grams import refuse_data_parallel
from reprolib.models.networks import Normaliser


class Wrapped(nn.Module):
    """A module of anybody's as a network from images (n, c, h, w) in [0, 1] to logits (n, classes); see `wrap`.

    card: of a network that came from a file, what was read and what was assumed, see `reprolib.open_checkpoint`.
    """

    card: Mapping[str, Any]

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], logits: Take | None = None) -> None:
        super().__init__()
        self.normaliser, self.model, self.architecture, self._logits = Normaliser(mean, std), model, type(model).__name__, logits

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images x. Raises BadInput for another number of channels, and as `reprolib.boundary.Classifier` does."""
        if x.shape[1] != self.normaliser.mean.shape[1]:
            raise BadInput(f"images have {x.shape[1]} channels, mean and std {self.normaliser.mean.shape[1]}: give one value a channel")
        return Classifier(self.model, logits=self._logits)(self.normaliser(x))


def wrap(model: nn.Module, mean: Sequence[float], std: Sequence[float], logits: Take | None = None) -> Wrapped:
    """A model that takes normalised images, as a network that takes images in [0, 1]; the model itself is shared, not changed.

    mean, std: of its normaliser, one value a channel in units of [0, 1]; (0, 0, 0) and (1, 1, 1) where the model normalises itself.
    logits: where it gives a tuple or a dict, the place or the key of the logits, or a function of what it gives.
    Raises BadInput for a normaliser in other units, weights that are not float32, and data-parallel wrappers.
    """
    _check_module(model)
    refuse_data_parallel(model)
    given_normaliser(mean, std)
    kinds = {tensor.dtype for tensor in model.parameters() if tensor.dtype != torch.float32}
    if kinds:
        raise BadInput(f"the model has weights of {', '.join(sorted(map(str, kinds)))}: measures need float32, so give model.float()")
    return Wrapped(model, mean, std, logits).to(device_of(model))


def given_normaliser(mean: Sequence[float] | None, std: Sequence[float] | None) -> tuple[Sequence[float], Sequence[float]] | None:
    """Both, or None where neither is given. Raises BadInput unless they have one value a channel, in units of [0, 1]."""
    if mean is None and std is None:
        return None
    try:
        mean, std = (() if values is None else tuple(map(float, values)) for values in (mean, std))
    except (TypeError, ValueError) as error:
        raise BadInput(f"mean={mean!r}, std={std!r}: give one number of each a channel, such as (0.5, 0.5, 0.5)") from error
    if len(mean) != len(std) or not mean or not all(0 <= m <= 1 for m in mean) or not all(0 < s <= 1 for s in std):
        raise BadInput(f"mean={mean}, std={std}: give one of each a channel, in units of [0, 1] (those of bytes divided by 255)")
    return mean, std


def copy_of(model: nn.Module) -> nn.Module:
    """A deep copy. Raises BadInput for what is no module, and for one that cannot be copied."""
    _check_module(model)
    try:
        return copy.deepcopy(model)
    except RuntimeError as error:  # torch.nn.utils.weight_norm, for one
        raise BadInput(
            f"{type(model).__name__} cannot be copied ({str(error).split('.')[0]}): use torch.nn.utils.parametrizations, or remove_weight_norm"
        ) from error


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights live: the CPU for one without any. Raises BadInput for what is no module."""
    _check_module(model)
    return next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))


def _check_module(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise BadInput(f"model={model!r} is no network: give a module, made of its class, such as Net()")
