"""How entangled the classes are in every layer of anybody's network: a frame with a row a layer, and its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from reprolib.boundary import check_count, checked_labels, own_state
from reprolib.data.pictures import Pictures, pictures
from reprolib.errors import BadInput
from reprolib.measures.entangled_layers import entanglements, spread_ratio, squared_distances
from reprolib.measures.intervals import of_mean
from reprolib.models.grams import collect
from reprolib.models.layers import shrunk
from reprolib.models.wrapped import Wrapped, device_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PER_CLASS = 12  # images of each class in a batch
LARGEST_BATCH = 2_048


class LayerEntanglement(pd.DataFrame):
    """A row a layer, in the order of execution: means over batches of equal size.

    layer; entanglement: the soft nearest neighbour loss at its minimum over temperature, in units of its bound (0 classes far apart, 1 features that
    say nothing of them), with its interval low, high (95 %, over batches; nan of a single one); temperature: of the minimum, over the layer's mean
    squared distance (infinite at the bound); at_bound: the share of batches there; spread: mean distance of points to their class mean over that
    between class means. batch: images in a batch, on which values hang: frames of different ones do not compare.
    """

    _metadata = ["batch", "n_classes"]
    batch: int
    n_classes: int

    @property
    def _constructor(self) -> type[LayerEntanglement]:
        return LayerEntanglement

    def plot(self, beside: Mapping[str, LayerEntanglement] | None = None) -> Figure:  # type: ignore[override]
        """Entanglement by layer with its interval; other networks' by name. Raises BadInput where these are of batches of another size."""
        from reprolib.figures import own_network

        named = {"mine": self, **(beside or {})}
        for name, other in named.items():
            if not isinstance(other, LayerEntanglement):
                raise BadInput(f"{name!r} is a {type(other).__name__}: give what `entanglement_by_layer` gave of other networks, by name")
            if (other.batch, other.n_classes) != (self.batch, self.n_classes):
                raise BadInput(
                    f"{name!r} is of batches of {other.batch} images in {other.n_classes} classes, mine of {self.batch} in {self.n_classes}: "
                    "values at different sizes do not compare; give the same images and per_class"
                )
        return own_network.entanglement(named)


@own_state()
def entanglement_by_layer(
    net: nn.Module, images: Pictures, labels: Tensor | None = None, layers: Sequence[str] | str | None = None, per_class: int | None = None,
    n: int | None = None, size_px: int | None = None,
) -> LayerEntanglement:  # fmt: skip
    """How entangled the classes of images are in each layer of a network, see `LayerEntanglement`; its `.plot()` draws it.

    net: any network from images in [0, 1], see `wrap`; it need not know these classes. labels: (n,), absent those of the data set that
    `images` names; n, size_px: as in `pictures` (1,000 of a folder or data set). layers: names of modules, or one; absent, the maps and the pooled
    code of a `Network`, of another model every module without children that runs. Maps are averaged over neighbouring positions to at most 4,096
    numbers. per_class: images of each class in a batch (absent: 12, or as many as the rarest class has); there are as many disjoint batches as
    there are images for, in their order. Values at different batch sizes do not compare.
    Raises BadInput for labels of another shape, fewer than two classes, a class with fewer than per_class or two images, batches of more than
    2,048, and as `collect` does. Source: Frosst et al. 2019 (arXiv 1902.01889), eq. 2; spread is this project's.
    """
    x, own = pictures(images, n, size_px, 1_000)
    try:
        y = own if labels is None else torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(
            f"labels are a {type(labels).__name__} that is no tensor ({error}): give whole class numbers, one an image"
        ) from error
    y = y[: len(x)] if y is not None and n is not None and y.ndim else y
    if y is None:
        raise BadInput(f"no labels for {len(x)} images: give labels (n,), one an image")
    index, k = _batches(checked_labels(y, len(x)), per_class)
    prefix, device = "model." if isinstance(net, Wrapped) else "", device_of(net)
    names = [layers] if isinstance(layers, str) else layers
    found: dict[str, list[list[float]]] = {}
    for at in index:
        kept = collect(net, x[at].to(device), None if names is None else [prefix + name for name in names], reduce=_distances)
        kept = {name.removeprefix(prefix): of for name, of in kept.items() if name.startswith(prefix)}
        if wrong := [f"layer {name}: {of}" for name, of in kept.items() if isinstance(of, str)]:
            raise BadInput(wrong[0])
        stack = torch.stack([of for of in kept.values() if isinstance(of, Tensor)])
        least = entanglements(stack, y[at])
        columns = [least.share, least.relative_temperature, least.at_bound, spread_ratio(stack, y[at])]
        for name, numbers in zip(kept, torch.stack([column.double().cpu() for column in columns], dim=1).tolist(), strict=True):
            found.setdefault(name, []).append(numbers)
    rows: list[dict[str, Any]] = []
    for name, batches in found.items():
        share, temperature, at_bound, spread = np.array(batches).T
        value, low, high = of_mean(share) if len(share) > 1 else (share[0], np.nan, np.nan)
        ends = {"low": max(low, 0.0), "high": min(high, 1.0)} if len(share) > 1 else {"low": low, "high": high}
        rows.append(
            {
                "layer": name,
                "entanglement": value,
                **ends,
                "temperature": np.median(temperature),
                "at_bound": at_bound.mean(),
                "spread": spread.mean(),
            }
        )
    frame = LayerEntanglement(rows)
    frame.batch, frame.n_classes = index.shape[1], k
    return frame


def _distances(features: Tensor) -> Tensor | str:
    """Of one layer; what is wrong with it in words, for it has no name here."""
    try:
        return squared_distances(shrunk(features))
    except BadInput as error:
        return str(error)


def _batches(y: Tensor, per_class: int | None) -> tuple[Tensor, int]:
    """Places of the images of disjoint balanced batches (batches, n), classes taking turns; and how many classes there are."""
    classes, sizes = y.unique(return_counts=True)
    least, rarest = int(sizes.min()), int(classes[sizes.argmin()])
    if per_class is not None:
        check_count(per_class, "per_class")
    size = min(PER_CLASS, least) if per_class is None else per_class
    if len(classes) < 2:
        raise BadInput(f"all {len(y)} images are of class {rarest}: give images of at least two classes")
    if least < 2:
        raise BadInput(f"class {rarest} has a single image, which has no neighbour of its class: give two of each, or leave the class out")
    if size < 2 or size > least:
        raise BadInput(
            f"class {rarest} has {least} images, for batches of {size} of each: give at least two of each class, and per_class from 2 to {least}"
        )
    if size * len(classes) > LARGEST_BATCH:
        raise BadInput(
            f"batches of {size} images in {len(classes)} classes hold more than {LARGEST_BATCH}: give fewer classes, or a smaller per_class"
        )
    count = least // size
    own = [(y == one).nonzero().flatten()[: count * size] for one in classes]
    return torch.stack(own, dim=1).view(count, size * len(classes)), len(classes)
