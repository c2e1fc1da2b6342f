"""What public functions accept, checked once where it enters, and the torch state in which they work, whatever the caller's."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from reprolib.errors import BadInput

ROUNDING = 1e-6  # so far outside [0, 1] images may lie
NAMED = 8  # samples that a message names

Take = int | str | Callable[[Any], Tensor]
"""Where in a model's output the logits are: an index, a key, or a function of the output."""


def checked_images(x: Tensor, name: str = "images") -> Tensor:
    """Images (n, c, h, w) clipped to [0, 1].

    Raises BadInput unless there is at least one, they are float32 or float64 (in half precision a step is lost, or leaves the
    ball), finite, and lie in [0, 1] but for rounding: the mistake is often a factor of 255.
    """
    if not isinstance(x, Tensor):
        raise BadInput(f"{name} are a {type(x).__name__}: give a tensor (n, c, h, w) in [0, 1]")
    if x.ndim != 4 or not x.is_floating_point():
        raise BadInput(f"{name} are {x.dtype} of shape {tuple(x.shape)}: give floats (n, c, h, w) in [0, 1] (bytes divided by 255)")
    if x.dtype not in (torch.float32, torch.float64):
        raise BadInput(f"{name} are {x.dtype}: float32 or float64 is needed, in half precision pixels move by rounding; call .float()")
    if not x.numel():
        raise BadInput(f"{name} of shape {tuple(x.shape)} are empty: give at least one image, or leave the batch out")
    low, high = (float(end) for end in torch.aminmax(x.detach()))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise BadInput(f"{name} {not_finite(x)} hold values that are not finite: look at what made them")
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise BadInput(f"{name} lie in [{low:.4g}, {high:.4g}], not in [0, 1]: divide bytes by 255, do not normalise, clamp what was moved")
    return x.clamp(0, 1) if low < 0 or high > 1 else _plain(x)


def checked_labels(y: Tensor, n: int, name: str = "labels") -> Tensor:
    """Class numbers (n,), one an image, int64 whatever whole dtype they were given in.

    Raises BadInput for another shape or dtype. Whether a network has these classes is known once it ran: see `Classifier`.
    """
    if not isinstance(y, Tensor) or y.shape != (n,) or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        given = f"{y.dtype} of shape {tuple(y.shape)}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
        cure = "; of one-hot rows take .argmax(1)" if isinstance(y, Tensor) and y.ndim == 2 and len(y) == n and y.shape[1] > 1 else ""
        raise BadInput(f"{name} are {given} for {n} images: give whole class numbers ({n},), one an image{cure}")
    return _plain(y.long())


def check_count(value: int, name: str) -> None:
    """Raise BadInput unless value is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInput(f"{name}={value!r} is not allowed: give a whole number of at least 1")


def check_step(step: float, largest: float = math.inf, name: str = "step") -> None:
    """Raise BadInput unless a step's length lies above 0 (below, it leads away) and is at most `largest`, the size of the range."""
    if not (0 < step <= largest and math.isfinite(step)):
        hint = f"; did you mean {step:g}/255 = {step / 255:.4f}?" if largest < step <= 255 else ""
        allowed = f"at most {largest:g}" if math.isfinite(largest) else "finite"
        raise BadInput(f"{name}={step:g} is not allowed: give a length above 0 and {allowed}, in pixel units{hint}")


def not_finite(x: Tensor) -> list[int]:
    """The samples of x (n, ...) that hold infinities or no numbers, the first few of them, for messages."""
    return (~torch.isfinite(x.detach().reshape(len(x), -1))).any(dim=1).nonzero().flatten()[:NAMED].tolist()


@contextlib.contextmanager
def own_state() -> Iterator[None]:
    """Gradients can be taken, in fp32, whatever the caller's inference mode, grad mode, autocast and default dtype.

    All of them are handed back, also after an error. Also a decorator.
    """
    dtype = torch.get_default_dtype()
    with (
        torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False),
    ):  # fmt: skip
        try:
            torch.set_default_dtype(torch.float32)
            yield
        finally:
            torch.set_default_dtype(dtype)


@contextlib.contextmanager
def fitting(model: nn.Module, x: Tensor) -> Iterator[None]:
    """An error of torch's from inside a model that does not fit its images becomes BadInput: dtype, device, or weights of inference mode.

    A model may well change dtype or device inside: so only an error is looked at.
    """
    try:
        yield
    except RuntimeError as error:
        weights = next((weight for weight in model.parameters() if weight.is_floating_point()), x)
        if weights.dtype != x.dtype:
            raise BadInput(
                f"images are {x.dtype} and the network's weights {weights.dtype}: make both float32, images.float(), model.float()"
            ) from error
        if weights.device != x.device:
            raise BadInput(f"images are on {x.device} and the network on {weights.device}: move one of them, images.to(...)") from error
        if any(weight.is_inference() for weight in model.state_dict().values()):
            raise BadInput(
                "the network was made under torch.inference_mode(), so nothing can be differentiated through it: build or load it outside"
            ) from error
        raise


class Classifier(nn.Module):
    """A model whose outputs are checked to be logits (n, classes) of its images, and its labels to be among the classes.

    logits: where they are in an output that holds more. y: labels that the images have, see `checked_labels`.
    """

    def __init__(self, model: nn.Module, y: Tensor | None = None, logits: Take | None = None) -> None:
        super().__init__()
        self.model, self.take = model, logits
        self.labels = [] if y is None else y.tolist()
        self.largest = max(self.labels, default=0)

    def forward(self, x: Tensor) -> Tensor:
        """The logits. Raises BadInput for anything else, for classes too few, and for labels the model does not have."""
        with fitting(self.model, x):
            given = self.model(x.clone())  # a model may write over what it is given
        found = given if self.take is None else _taken(given, self.take)
        if not isinstance(found, Tensor):
            raise BadInput(
                f'the model gives {_described(given)}: logits (n, classes) are needed; say where they are, e.g. logits=0 or logits="logits"'
            )
        if found.ndim != 2 or len(found) != len(x) or not found.is_floating_point():
            raise BadInput(
                f"the model gives {found.dtype} of shape {tuple(found.shape)} for {len(x)} images: logits (n, classes) are needed"
            )
        n_classes = found.shape[1]
        if n_classes < 2:
            raise BadInput(
                f"the model gives {n_classes} logit an image, whose cross-entropy is always 0: at least 2 are needed; of one logit z of a "
                "binary network make two, logits=lambda z: torch.cat([-z / 2, z / 2], 1)"
            )
        if self.largest >= n_classes or min(self.labels, default=0) < 0:
            at = next(i for i, label in enumerate(self.labels) if not 0 <= label < n_classes)
            raise BadInput(
                f"label {self.labels[at]} of image {at} is not one of the network's {n_classes} classes: allowed are 0 to {n_classes - 1}"
            )
        return found


def _plain(x: Tensor) -> Tensor:
    """A tensor of inference mode as one that autograd takes, where that mode is off."""
    return x.clone() if x.is_inference() and not torch.is_inference_mode_enabled() else x


def _taken(given: Any, take: Take) -> Any:
    try:
        return take(given) if callable(take) else given[take]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise BadInput(f"logits={take!r} is not in what the model gives, {_described(given)}: name what is there") from error


def _described(given: Any) -> str:
    """An output in a few words: its type, and its keys or the types of its parts."""
    name = type(given).__name__
    if isinstance(given, dict):
        return f"a {name} with {', '.join(map(repr, given))}"
    if isinstance(given, tuple | list):
        return f"a {name} of {', '.join(type(part).__name__ for part in given)}"
    return f"a {name}" + (f" of shape {tuple(given.shape)}" if isinstance(given, Tensor) else "")
