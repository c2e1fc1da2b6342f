"""Anybody's network: what these papers ask, of any module from images to logits; and what is already there, in one line each.

net = reprolib.wrap(model, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
similar = reprolib.cka_map(net, images)
similar.plot()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reprolib.boundary import check_count
from reprolib.cue_conflicts import cue_conflict
from reprolib.data.pictures import Pictures, pictures
from reprolib.entangled import entanglement_by_layer
from reprolib.errors import BadInput, MissingData, nearest
from reprolib.left_out import leave_one_out
from reprolib.measures import indices
from reprolib.measures.cka import BatchHSIC
from reprolib.measures.intervals import jackknife, of_mean, of_share
from reprolib.measures.perceptual import random_pair_median
from reprolib.models.checkpoints import open_checkpoint
from reprolib.models.grams import collect, minibatch_cka
from reprolib.models.layers import eval_mode
from reprolib.models.networks import ARCHITECTURES, Network
from reprolib.models.wrapped import Wrapped, device_of, wrap
from reprolib.perturb.attacks import adversarial_accuracy, predictions
from reprolib.perturb.inversion import follow, network_code, noise_start
from reprolib.units import dissect, smoothness

__all__ = [
    "attack_accuracy", "cka_map", "cue_conflict", "dissect", "entanglement_by_layer", "inverses", "leave_one_out", "network", "open_checkpoint",
    "rows", "smoothness", "wrap",
]  # fmt: skip

if TYPE_CHECKING:
    from matplotlib.figure import Figure


N_BATCHES, LARGEST_BATCH = 8, 128  # of the images of a CKA: equal parts, each left out once for the interval
STEP_AT_32_PX = 0.1  # of an inversion, pixel L2: as in the findings; it grows with the side of the images


@dataclass(frozen=True)
class CkaMap:
    """How alike the layers of a network are. layers: by module name, in the order of execution; left_out: layer -> why its CKA is undefined.

    frame: layer_x, layer_y, cka, low, high (95 %, by the jackknife over batches of images); hsic: what it is made of.
    """

    layers: tuple[str, ...]
    frame: pd.DataFrame
    hsic: BatchHSIC
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """CKA (L, L)."""
        return self.hsic.matrix()

    def indices(self) -> pd.DataFrame:
        """Off-diagonal mean, long-range mean, slope over lag and effective rank, each with its interval; see `reprolib.measures.indices`."""
        asked = (indices.off_diagonal_mean, indices.long_range_mean, indices.lag_slope, indices.effective_rank)
        rows = [
            (index.__name__, *jackknife(lambda draws, index=index: index(self.hsic.matrix(draws)), len(self.hsic.n))) for index in asked
        ]
        return pd.DataFrame([[name, *map(float, numbers)] for name, *numbers in rows], columns=["index", "value", "low", "high"])

    def plot(self, beside: Mapping[str, CkaMap] | None = None) -> Figure:
        """The map, and those of other networks beside it by name."""
        from reprolib.figures import own_network

        return own_network.maps({"mine": self, **(beside or {})})


def cka_map(
    net: nn.Module, images: Pictures, layers: Sequence[str] | None = None, n: int | None = None, size_px: int | None = None
) -> CkaMap:
    """Linear CKA (unbiased, in minibatches) of every two layers of a network, on images in [0, 1].

    net: any network from images in [0, 1], see `wrap`. images: at least 8; n, size_px: as in `pictures` (256 of a folder or data set).
    layers: names of modules of the model; absent, every module without children that runs, maps (n, c, h, w) and tokens (n, t, d) alike.
    Raises BadInput as `reprolib.models.grams.collect` does, and for fewer than two layers of which CKA is defined.
    """
    x, _ = pictures(images, n, size_px, 256)
    if len(x) < 8:
        raise BadInput(f"{len(x)} images: CKA with an interval needs at least 8, and is steady from 200 or so; give more")
    x, prefix = x.to(device_of(net)), "model." if isinstance(net, Wrapped) else ""
    layers = [layers] if isinstance(layers, str) else layers
    names = [prefix + name for name in layers] if layers is not None else _that_run(net, x[:2])
    n_batches = max(min(N_BATCHES, len(x) // 8), 2, -(-len(x) // LARGEST_BATCH))
    found = minibatch_cka(net, x.tensor_split(n_batches), layers=names)
    told, undefined, hsic = [name.removeprefix(prefix) for name in found.names_x], found.undefined(), found.batches()
    kept = [k for k, name in enumerate(found.names_x) if name not in undefined]
    if len(kept) < 2:
        raise BadInput(f"CKA is defined for {len(kept)} of the layers {', '.join(told)}: name at least two that vary over the images")
    hsic = BatchHSIC(hsic.n, hsic.cross[:, kept][:, :, kept], hsic.own_x[:, kept], hsic.own_y[:, kept], hsic.ids)
    value, low, high = (of.flatten() for of in jackknife(hsic.matrix, n_batches))
    names = [told[k] for k in kept]
    pairs = pd.MultiIndex.from_product([names, names], names=["layer_x", "layer_y"])
    frame = pd.DataFrame({"cka": value, "low": low, "high": np.minimum(high, 1)}, pairs).reset_index()
    return CkaMap(tuple(names), frame, hsic, {name.removeprefix(prefix): why for name, why in undefined.items()})


@dataclass(frozen=True)
class Inverses:
    """images (n, c, h, w) with nearly the code of targets, found from starts. d_rel (n,): how near, 1 = the codes of two random images.

    value, low, high: the mean d_rel, and its interval (95 %) over images. layer: where the code was taken.
    """

    images: Tensor
    targets: Tensor
    starts: Tensor
    d_rel: Tensor
    value: float
    low: float
    high: float
    layer: str

    @property
    def frame(self) -> pd.DataFrame:
        """image, d_rel."""
        return pd.DataFrame({"image": range(len(self.d_rel)), "d_rel": self.d_rel.numpy()})

    def plot(self, beside: Mapping[str, Inverses] | None = None) -> Figure:
        """Targets, starts and inverses, d_rel below each; and the inverses of other networks below, by name."""
        from reprolib.figures import own_network

        return own_network.inverses({"mine": self, **(beside or {})})


def inverses(
    net: nn.Module, images: Pictures, layer: str | None = None, steps: int = 200, step: float | None = None, seed: int = 0,
    n: int | None = None, size_px: int | None = None, batch_size: int = 32,
) -> Inverses:  # fmt: skip
    """Images that a network represents like the given ones, found by gradient descent from noise: does it see what we see?

    images: at least 2; n, size_px: as in `pictures` (8 of a folder or data set). layer: the module whose output is the code; absent, the
    input of the last dense layer or convolution that runs, the papers' R (of our own networks with the "fake ReLU" of the findings).
    steps, step: normalised steps, of that length in pixel L2 (absent: .1 at 32 px, more on larger images). seed: of the noise.
    Raises BadInput for a layer that does not run, and for codes that are all alike. Source: Engstrom et al. 2019 (arXiv 1906.00945).
    """
    check_count(batch_size, "batch_size")
    x, _ = pictures(images, n, size_px, 8)
    if len(x) < 2:
        raise BadInput(f"{len(x)} image: d_rel is in units of the distance of two; give at least 2")
    x, starts = x.to(device_of(net)), noise_start(x.shape, seed).to(device_of(net))
    with eval_mode(net), torch.autocast(x.device.type, enabled=False):
        name, code = ("last", network_code(net, 1)) if isinstance(net, Network) and layer is None else _code(net, x[:1], layer)
        with torch.no_grad():
            wanted = torch.cat([code(part) for part in x.split(batch_size)])
        unit = random_pair_median(wanted, generator=torch.Generator().manual_seed(0))
        if not unit > 0:
            raise BadInput(f"the codes at {name} are alike for all {len(x)} images: give other images, or another layer")
        length = STEP_AT_32_PX * (x[0].numel() / (3 * 32 * 32)) ** 0.5 if step is None else step
        parts = zip(wanted.split(batch_size), starts.split(batch_size), strict=True)
        found = [follow(code, aim, start, steps, length, every=max(steps, 1)) for aim, start in parts]
    d_rel = torch.cat([one.distance for one in found]).cpu() / unit
    moved = torch.cat([one.x for one in found]).cpu()
    return Inverses(moved, x.cpu(), starts.cpu(), d_rel, *of_mean(d_rel.numpy()), name)


@dataclass(frozen=True)
class AttackAccuracy:
    """The share of n images still given their label under attack, and its interval over images (95 %); clean: (value, low, high) without.

    correct (n,): which withstood. norm, eps: the ball, in pixel units. gradient_zero_share: of images without any gradient (a masked one?).
    """

    value: float
    low: float
    high: float
    clean: tuple[float, float, float]
    correct: Tensor
    norm: str
    eps: float
    gradient_zero_share: float

    def __float__(self) -> float:
        return self.value

    @property
    def frame(self) -> pd.DataFrame:
        """under (images as they are, or attack), value, low, high."""
        numbers = [("no attack", *self.clean), (f"{self.norm} {self.eps:.3g}", self.value, self.low, self.high)]
        return pd.DataFrame(numbers, columns=["under", "value", "low", "high"])

    def plot(self, beside: Mapping[str, AttackAccuracy] | None = None) -> Figure:
        """Accuracy with and without the attack, with intervals; and other networks' by name."""
        from reprolib.figures import own_network

        return own_network.accuracies({"mine": self, **(beside or {})})


def attack_accuracy(
    net: nn.Module, images: Pictures, labels: Tensor | None = None, norm: str = "linf", eps: float = 8 / 255, steps: int = 20,
    restarts: int = 3, seed: int = 0, n: int | None = None, size_px: int | None = None, batch_size: int = 64,
) -> AttackAccuracy:  # fmt: skip
    """Accuracy under PGD: an upper bound on robust accuracy, with an interval over images (Wilson 1927).

    labels: (n,), classes in the order of the logits; absent, those of the data set that `images` names. n, size_px: as in `pictures`
    (256 of a data set). Otherwise as `reprolib.perturb.attacks.adversarial_accuracy`.
    """
    x, own = pictures(images, n, size_px, 256)
    y = own if labels is None else torch.as_tensor(labels)
    y = y[: len(x)] if y is not None and n is not None and y.ndim else y
    if y is None or y.ndim != 1 or len(y) != len(x):
        raise BadInput(f"{'no' if y is None else y.numel()} labels for {len(x)} images: give labels (n,), one an image")
    x, y = x.to(device_of(net)), y.to(device_of(net))
    clean = predictions(net, x, batch_size) == y
    found = adversarial_accuracy(net, x, y, norm, eps, steps, restarts, seed=seed, batch_size=batch_size)  # type: ignore[arg-type]
    shares = of_share(int(found.correct.sum()), len(x)), of_share(int(clean.sum()), len(x))
    return AttackAccuracy(*shares[0], shares[1], found.correct.cpu(), norm, eps, found.gradient_zero_share)


def network(
    architecture: str, recipe: str, seed: int = 0, scale: str = "cifar", dataset: str | None = None, device: str = "cpu"
) -> Network:
    """A trained network of the zoo, loaded; nothing is trained here.

    Raises BadInput for unknown names, MissingData, which says what is there and which command trains, CorruptFile for a damaged one.
    """
    from reprolib import scales
    from reprolib.training import recipes, zoo

    if architecture not in ARCHITECTURES:
        raise BadInput(
            f"architecture {architecture!r} is unknown; allowed: {', '.join(ARCHITECTURES)}{nearest(architecture, ARCHITECTURES)}"
        )
    spec = zoo.Spec(recipes.recipe(recipe).id, architecture, dataset or scales.scale(scale).dataset, seed, scale)
    try:
        return zoo.load(spec, device)
    except MissingData as error:
        there = sorted(path.stem.rpartition("-")[0] for path in spec.path.parent.glob(f"{architecture}-*.safetensors"))
        raise MissingData(f"{error}; there of {architecture}: {', '.join(there) or 'none'}") from error


def rows(finding: str, scale: str = "laptop") -> pd.DataFrame:
    """The committed rows of a finding at a scale, one number of one network and image each. Raises MissingData where there are none."""
    from reprolib import parameters
    from reprolib.judging.tidy import read_rows

    path = parameters.validate(finding, {"scale": scale}).committed() / "rows.csv.gz"
    if not path.is_file():
        there = sorted(one.parts[-3] for one in path.parents[2].glob(f"*/{finding}/rows.csv.gz") if one.parts[-3] != "rerun")
        raise MissingData(f"no rows of {finding} are committed at scale {scale}: they are at {', '.join(there) or 'none'}")
    return read_rows(path)


def _that_run(net: nn.Module, x: Tensor) -> list[str] | None:
    """The default layers of a wrapped model: those of `collect`, but for the normaliser; of any other network its own default."""
    if not isinstance(net, Wrapped):
        return None
    return [name for name in collect(net, x, reduce=lambda output: None) if name.startswith("model.") and "#" not in name]


def _code(net: nn.Module, x: Tensor, layer: str | None) -> tuple[str, Callable[[Tensor], Tensor]]:
    """A layer's name, and the function from images to its output, flattened (n, d); absent: to the input of the last dense layer or convolution."""
    prefix = "model." if isinstance(net, Wrapped) else ""
    paths = {path.removeprefix(prefix): module for path, module in net.named_modules() if path}
    if layer is not None and layer not in paths:
        raise BadInput(f"layer {layer!r} is unknown; allowed: {', '.join(paths)}{nearest(layer, paths)}")
    ran: list[str] = []
    held: list[Tensor] = []
    dense = (nn.Linear, nn.Conv1d, nn.Conv2d)
    watched = {layer: paths[layer]} if layer else {path: module for path, module in paths.items() if isinstance(module, dense)}
    handles = [module.register_forward_hook(lambda *_, path=path: ran.append(path)) for path, module in watched.items()]
    with torch.no_grad():
        net(x.clone())
    for handle in handles:
        handle.remove()
    if not ran:
        raise BadInput(f"{layer or 'every dense layer and convolution'} did not run in the forward pass: name a layer that does")
    name = ran[-1]

    def code(images: Tensor) -> Tensor:
        def keep(module: nn.Module, given: Any, output: Any = None) -> None:
            value = output if layer else given[0]
            if not isinstance(value, Tensor):
                raise BadInput(f"layer {name!r} gives a {type(value).__name__}, no tensor: name one inside it")
            held[:] = [value.clone()]  # a later module may write over it

        handle = paths[name].register_forward_hook(keep) if layer else paths[name].register_forward_pre_hook(keep)
        try:
            net(images.clone())
        finally:
            handle.remove()
        return held.pop().flatten(1)

    return name if layer else f"the input of {name}", code
