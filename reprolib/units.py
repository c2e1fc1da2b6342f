"""The hidden units of anybody's network, a row a unit: what they answer to, and what noise does to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from reprolib.boundary import check_count, checked_images, fitting, own_state
from reprolib.data import distort
from reprolib.data.images import Images
from reprolib.data.pictures import Pictures, pictures
from reprolib.data.scenes import Scenes
from reprolib.errors import BadInput, nearest
from reprolib.measures import dissection
from reprolib.measures.gram import full_precision
from reprolib.measures.smoothness import DEAD, blocking, is_dead, relative_blocking, total_variation
from reprolib.models.grams import collect
from reprolib.models.layers import eval_mode
from reprolib.models.networks import Network
from reprolib.models.wrapped import Wrapped, device_of

Concept = tuple[str, str, Tensor]
"""Category, name and mask (n, h, w) bool of a concept on n images."""
VALUES_AT_ONCE = 2**22  # pixels and their masks in a batch


@own_state()
def dissect(
    net: nn.Module,
    images: Tensor | Images | Scenes,
    concepts: Iterable[Concept] | None = None,
    layers: Sequence[str] | str | None = None,
    quantile: float = dissection.QUANTILE,
) -> pd.DataFrame:
    """Which concept each unit of a network detects: the one whose masks overlap most with the unit's strongest responses.

    net: any network from images in [0, 1], see `wrap`. images: (n, 3, h, w) in [0, 1], or an `Images`, or `Scenes`
    (`reprolib.data.scenes.render`), which bring concepts. concepts: an iterable of (category, name, masks (n, h, w) bool), at least two.
    layers: names (or one) of modules that give maps (n, c, h, w); absent, the maps of a `Network`, and of another model the parts it is made of.
    A unit is active where its map, resized to the masks, exceeds what a share `quantile` of its positions exceed; see
    `reprolib.measures.dissection`. Only one batch of maps is held at a time.
    Columns: layer, unit, concept, category, iou (from .04 a detector), second, second_iou, inside (share of the unit's active pixels inside
    the concept), threshold, dead. A unit that is dead, or has next to no position above its threshold, has no concept.
    Layers of dead units only are left out, with a line that says so.
    Raises BadInput for unknown layers and those that give no maps, for masks of another size or count than the images, a concept without a
    pixel or everywhere, and a quantile outside (0, 1) or that fewer than 8 positions lie above.
    """
    if isinstance(images, Scenes):
        concepts = concepts_of(images) if concepts is None else concepts
        x = images.image.float() / 255
    else:
        x = checked_images(images.x.float() / 255 if isinstance(images, Images) else images)
    if concepts is None:
        raise BadInput(
            "concepts are needed: an iterable of (category, name, masks (n, h, w) bool); scenes of `reprolib.data.scenes` bring theirs"
        )
    known = _checked(concepts, x)
    prefix, device = "model." if isinstance(net, Wrapped) else "", device_of(net)
    names = _parts(net, x[:2].to(device), prefix) if layers is None else _named(net, layers, prefix)
    masks = torch.stack([mask for *_, mask in known])
    step = max(1, VALUES_AT_ONCE // masks[:, 0].numel())

    def batches() -> Iterator[dissection.Batch]:
        for start in range(0, len(x), step):
            maps = collect(net, x[start : start + step].to(device), names, reduce=torch.clone)
            yield {name: _map(name.removeprefix(prefix), one) for name, one in maps.items()}, masks[:, start : start + step].to(device)

    with torch.no_grad(), full_precision():
        found = dissection.overlaps(batches, dissection.thresholds(batches, (quantile,)))
    return pd.concat([_frame(name.removeprefix(prefix), of, known) for name, of in found.items()], ignore_index=True)


@own_state()
def smoothness(
    net: nn.Module, images: Pictures, layers: Sequence[str] | str | None = None, sigma: float = 0.05, n: int | None = None,
    size_px: int | None = None, batch_size: int = 32,
) -> pd.DataFrame:  # fmt: skip
    """What white noise does to each channel of a network: total variation of its maps clean and noisy, means over the images.

    net: any module from images in [0, 1], see `wrap`. images; n, size_px: as in `pictures` (256 of a folder or data set). layers: names of
    modules, of a `Network` also of its maps; absent, every one that gives maps (n, c, h, w). sigma: of the noise, in units of [0, 1]; an
    image's hangs on its place alone. Returns layer, channel, tv_clean, tv_noisy, b = |difference| / sum, r = |difference| / tv_clean, dead:
    whether mean |a| < 1e-8 on the clean images, where b and r are nan. Raises BadInput for a negative sigma, maps that are not finite, and
    as `reprolib.models.grams.collect` does. Source: Chen, Agarwal, Nguyen 2020 (arXiv 2006.09373); b is this project's.
    """
    check_count(batch_size, "batch_size")
    x, _ = pictures(images, n, size_px, 256)
    x, prefix = x.to(device_of(net)), "model." if isinstance(net, Wrapped) else ""
    names = None if layers is None else _named(net, layers, prefix)
    sums: dict[str, Tensor] = {}
    for ids in torch.arange(len(x)).split(batch_size):
        part = x[ids[0] : ids[-1] + 1]
        both = torch.cat([part, distort.gaussian_noise(part, sigma, ids.tolist())])
        for name, found in collect(net, both, names, reduce=_of_maps).items():
            if found is None and names is not None:
                raise BadInput(f"layer {name.removeprefix(prefix)} gives no maps (n, c, h, w): name one that does")
            if found is not None and name.startswith(prefix):
                sums[name] = sums.get(name, 0) + found
    frames = []
    for name, (clean, noisy, size) in ((name.removeprefix(prefix), sum_ / len(x)) for name, sum_ in sums.items()):
        if not bool((noisy + clean + size).isfinite().all()):
            raise BadInput(f"layer {name!r} holds values that are not finite: look at the network and its input")
        dead = is_dead(size)
        if dead.all():
            print(f"All {len(dead)} channels of {name} are dead.")
        ratios = [of(clean, noisy).masked_fill(dead, torch.nan) for of in (blocking, relative_blocking)]
        columns = {"tv_clean": clean, "tv_noisy": noisy, "b": ratios[0], "r": ratios[1], "dead": dead}
        told = {column: values.cpu().numpy() for column, values in columns.items()}
        frames.append(pd.DataFrame({"layer": name, "channel": range(len(dead)), **told}))
    if not frames:
        raise BadInput("no module of this network gives maps (n, c, h, w): total variation is of maps")
    return pd.concat(frames, ignore_index=True)


def concepts_of(scenes: Scenes) -> Iterator[Concept]:
    """The concepts that some of the scenes show; parts, which are lines of one pixel, as lines of 3."""
    for category, name, mask in scenes.concepts():
        if mask.any():
            yield category, name, dissection.dilated(mask) if category == "part" else mask


def _checked(concepts: Iterable[Concept], x: Tensor) -> list[Concept]:
    found, wanted = [], (len(x), *x.shape[2:])
    for concept in concepts:
        if isinstance(concept, str) or len(concept) != 3:
            raise BadInput(
                f"a concept is a {type(concept).__name__} of length {len(concept)}: give (category, name, masks (n, h, w) bool) each"
            )
        category, name, mask = concept
        try:
            given = torch.as_tensor(mask)
        except (TypeError, ValueError, RuntimeError) as error:
            raise BadInput(f"concept {name!r} ({category}) has a {type(mask).__name__} as masks: give a tensor {wanted}") from error
        if given.shape != wanted:
            raise BadInput(
                f"concept {name!r} ({category}) has masks {tuple(given.shape)} for images {tuple(x.shape)}: give {wanted}, one an image"
            )
        given = given.bool()
        if not given.any():
            raise BadInput(f"concept {name!r} ({category}) has no pixel in any image: leave it out, or give images that show it")
        if given.all():
            raise BadInput(f"concept {name!r} ({category}) is everywhere in every image: no unit can tell it apart, leave it out")
        found.append((category, name, given.cpu()))
    if len(found) < 2:
        raise BadInput(f"{len(found)} concept is given: a unit's best is told from its second best, so give two at least")
    return found


def _named(net: nn.Module, layers: Sequence[str] | str, prefix: str) -> list[str]:
    """Layers as `collect` calls them: those of a wrapped model are named as the model inside does. Raises BadInput for others, and for none."""
    names = [layers] if isinstance(layers, str) else list(layers)
    if not names:
        raise BadInput("layers are empty: name at least one, or leave them out")
    if isinstance(net, Wrapped):
        allowed = [path for path, _ in net.model.named_modules() if path]
        for name in names:
            if name not in allowed:
                raise BadInput(f"layer {name!r} is unknown; allowed: {', '.join(allowed)}{nearest(name, allowed)}")
    return [prefix + name for name in names]


def _parts(net: nn.Module, x: Tensor, prefix: str) -> list[str]:
    """Names of the maps of a Network; of another model those of its own modules that give a map of more than one position."""
    if isinstance(net, Network) and net.layer_names:
        return list(net.layer_names)
    inner = net.get_submodule(prefix[:-1]) if prefix else net
    maps: list[str] = []

    def keep(name: str, given: object) -> None:
        if isinstance(given, Tensor) and given.ndim == 4 and len(given) == len(x) and given[0, 0].numel() > 1 and name not in maps:
            maps.append(name)

    handles = [
        module.register_forward_hook(lambda module, given, value, name=name: keep(name, value)) for name, module in inner.named_children()
    ]
    try:
        with eval_mode(net), torch.no_grad(), full_precision(), fitting(net, x):
            net(x.clone())
    finally:
        for handle in handles:
            handle.remove()
    if not maps:
        raise BadInput(f"no part of this {type(inner).__name__} gives a map (n, c, h, w): name layers that do")
    return [prefix + name for name in maps]


def _map(layer: str, x: Tensor) -> Tensor:
    if x.ndim != 4:
        raise BadInput(f"layer {layer!r} gives {tuple(x.shape)}, no map (n, c, h, w): a unit is dissected by where it answers")
    return x


def _frame(layer: str, of: dissection.Overlaps, known: Sequence[Concept]) -> pd.DataFrame:
    dead, silent = of.thresholds.dead.cpu(), of.thresholds.skipped[0].cpu()
    if dead.all():
        print(f"Layer {layer}: all {len(dead)} units are dead (mean |a| below {DEAD:g} on all images), and are left out.")
    own = dissection.Labels(*(one[0].cpu() for one in dissection.labels(of)))
    has = ~(dead | silent)
    told: Mapping[str, Tensor] = {"iou": own.iou, "second_iou": own.second_iou, "inside": own.inside}
    numbers = {name: values.double().masked_fill(~has, torch.nan).numpy() for name, values in told.items()}

    def words(place: int, of_units: Tensor) -> list[str]:
        return [known[k][place] if there else "" for k, there in zip(of_units.tolist(), has.tolist(), strict=True)]

    table = pd.DataFrame({
        "layer": layer, "unit": range(len(dead)), "concept": words(1, own.best), "category": words(0, own.best), "iou": numbers["iou"],
        "second": words(1, own.second), "second_iou": numbers["second_iou"], "inside": numbers["inside"],
        "threshold": of.thresholds.value[0].cpu().numpy(), "dead": dead.numpy(),
    })  # fmt: skip
    return table[:0] if dead.all() else table


def _of_maps(maps: Tensor) -> Tensor | None:
    """(3, c): sums over images of the total variation of clean and of noisy maps, and of the clean ones' mean |a|; None of what is no map."""
    if maps.ndim != 4:
        return None
    clean, noisy = (maps.float() if maps.element_size() < 4 else maps).chunk(2)  # sums of half precision overflow
    found = total_variation(clean), total_variation(noisy), clean.abs().mean(dim=(2, 3))
    return torch.stack([one.double().sum(dim=0) for one in found])
