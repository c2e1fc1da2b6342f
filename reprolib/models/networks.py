"""The architectures of the study, with the normaliser as first module.

Every network takes images in [0, 1], (n, c, h, w), and runs as a sequence of named steps, so that any post-activation
map can be read off by name (`reprolib.models.layers`). Sources: He et al. 2016 for the residual blocks; widths and stems
are this project's (small enough for a laptop).
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprolib.errors import BadInput, nearest


class Normaliser(nn.Module):
    """(x - mean) / std per channel. It does not clamp: keeping images in [0, 1] is the engine's business."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The normalised images."""
        return (x - self.mean) / self.std


class _StraightThroughReLU(torch.autograd.Function):
    """ReLU forward, identity backward, so that units that are off still receive gradient."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


def straight_through_relu(x: Tensor) -> Tensor:
    """ReLU whose gradient is the identity ("fake ReLU" in MadryLab/robustness)."""
    return _StraightThroughReLU.apply(x)


class Network(nn.Module):
    """A classifier that yields its post-activation maps in execution order.

    Attributes: `architecture` (its id), `n_classes`, `layer_names` (every post-activation map, in execution order),
    `n_features` (length of the globally pooled code). The last named map is the one before global pooling.
    """

    architecture: str
    n_classes: int
    n_features: int
    layer_names: tuple[str, ...]
    normaliser: Normaliser
    linear: nn.Linear
    card: dict[str, Any]  # of networks that come from the zoo, as is
    sha256: str  # of the weights
    normaliser_source: str  # of public checkpoints

    def maps(self, x: Tensor, straight_through: bool = False) -> Iterator[tuple[str, Tensor]]:
        """Yield (name, post-activation map) for images x (n, c, h, w), in execution order.

        straight_through: the last ReLU passes gradients to units that are off.
        """
        raise TypeError(f"{type(self).__name__} must define maps()")

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, n_classes) of images x (n, c, h, w) in [0, 1]."""
        _, last = deque(self.maps(x), maxlen=1).pop()
        return self.linear(last.mean(dim=(2, 3)))


class ConvBN(nn.Module):
    """A convolution without bias and the BatchNorm that follows it; `fold` in `reprolib.models.layers` merges the two."""

    def __init__(self, n_in: int, n_out: int, kernel_px: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, kernel_px, stride, kernel_px // 2, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(n_out)

    def forward(self, x: Tensor) -> Tensor:
        """The normalised convolution, before any ReLU."""
        return self.bn(self.conv(x))


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut (1x1 convolution where the shape changes), post-activation."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.first = ConvBN(n_in, n_out, 3, stride)
        self.second = ConvBN(n_out, n_out, 3)
        self.shortcut = nn.Identity() if stride == 1 and n_in == n_out else ConvBN(n_in, n_out, 1, stride)

    def inner(self, x: Tensor) -> Tensor:
        """The map after the first ReLU."""
        return F.relu(self.first(x))

    def outer(self, x: Tensor, inner: Tensor) -> Tensor:
        """The sum before the last ReLU."""
        return self.second(inner) + self.shortcut(x)


class ResNet(Network):
    """A residual network: stem, stages of blocks (the first block of each later stage halves the map), pooling, linear.

    stem: (kernel px, stride). widths: channels a stage. n_blocks: blocks a stage.
    """

    def __init__(
        self,
        architecture: str,
        n_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        stem: tuple[int, int],
        widths: Sequence[int],
        n_blocks: int,
    ) -> None:
        super().__init__()
        kernel, stride = stem
        self.architecture, self.n_classes, self.n_features = architecture, n_classes, widths[-1]
        self.normaliser = Normaliser(mean, std)
        self.stem = ConvBN(len(mean), widths[0], kernel, stride)
        blocks: list[_Block] = []
        n_in = widths[0]
        for stage, width in enumerate(widths):
            for block in range(n_blocks):
                blocks.append(_Block(n_in, width, 2 if stage > 0 and block == 0 else 1))
                n_in = width
        self.blocks = nn.ModuleList(blocks)
        self.linear = nn.Linear(n_in, n_classes)
        places = [f"stage{s + 1}.block{b + 1}" for s in range(len(widths)) for b in range(n_blocks)]
        self._places = places
        self.layer_names = ("stem", *(f"{place}.{relu}" for place in places for relu in ("relu1", "relu2")))
        _initialise(self)

    def maps(self, x: Tensor, straight_through: bool = False) -> Iterator[tuple[str, Tensor]]:
        """See `Network.maps`."""
        x = F.relu(self.stem(self.normaliser(x)))
        yield "stem", x
        for i, (place, module) in enumerate(zip(self._places, self.blocks, strict=True)):
            block = cast(_Block, module)
            inner = block.inner(x)
            yield f"{place}.relu1", inner
            outer = block.outer(x, inner)
            x = straight_through_relu(outer) if straight_through and i == len(self.blocks) - 1 else F.relu(outer)
            yield f"{place}.relu2", x


class TinyCNN(Network):
    """Three 3x3 convolutions of 16, 32, 64 channels with BatchNorm, the last two of stride 2; global pooling, linear."""

    def __init__(
        self, architecture: str, n_classes: int, mean: Sequence[float], std: Sequence[float], widths: Sequence[int] = (16, 32, 64)
    ) -> None:
        super().__init__()
        self.architecture, self.n_classes, self.n_features = architecture, n_classes, widths[-1]
        self.normaliser = Normaliser(mean, std)
        channels = (len(mean), *widths)
        self.convs = nn.ModuleList(ConvBN(channels[i], channels[i + 1], 3, 1 if i == 0 else 2) for i in range(len(widths)))
        self.linear = nn.Linear(widths[-1], n_classes)
        self.layer_names = tuple(f"conv{i + 1}" for i in range(len(widths)))
        _initialise(self)

    def maps(self, x: Tensor, straight_through: bool = False) -> Iterator[tuple[str, Tensor]]:
        """See `Network.maps`."""
        x = self.normaliser(x)
        for i, (name, conv) in enumerate(zip(self.layer_names, self.convs, strict=True)):
            before = conv(x)
            x = straight_through_relu(before) if straight_through and i == len(self.convs) - 1 else F.relu(before)
            yield name, x


class LeNet(Network):
    """conv5x5-pool-conv5x5-pool-dense-dense with ReLU and max-pooling, then linear. Widths: LeCun et al. 1998 (LeNet-5).

    No BatchNorm. The maps are those before pooling; dense layers count as maps of 1 x 1.
    """

    def __init__(self, architecture: str, n_classes: int, mean: Sequence[float], std: Sequence[float], size_px: int) -> None:
        super().__init__()
        side = ((size_px - 4) // 2 - 4) // 2
        if side < 1:
            raise BadInput(f"size_px={size_px} is too small for lenet: images of at least 16 px a side")
        self.architecture, self.n_classes, self.n_features = architecture, n_classes, 84
        self.normaliser = Normaliser(mean, std)
        self.convs = nn.ModuleList([nn.Conv2d(len(mean), 6, 5), nn.Conv2d(6, 16, 5)])
        self.dense = nn.ModuleList([nn.Linear(16 * side * side, 120), nn.Linear(120, 84)])
        self.linear = nn.Linear(84, n_classes)
        self.layer_names = ("conv1", "conv2", "dense1", "dense2")
        _initialise(self)

    def maps(self, x: Tensor, straight_through: bool = False) -> Iterator[tuple[str, Tensor]]:
        """See `Network.maps`."""
        x = self.normaliser(x)
        for name, conv in zip(self.layer_names, self.convs, strict=False):
            x = F.relu(conv(x))
            yield name, x
            x = F.max_pool2d(x, 2)
        yield from _dense_maps(x, self.dense, self.layer_names[2:], straight_through)


class MLP(Network):
    """Two hidden layers of 256 with ReLU on the pixels, then linear; its layers count as maps of 1 x 1."""

    def __init__(
        self, architecture: str, n_classes: int, mean: Sequence[float], std: Sequence[float], size_px: int, width: int = 256
    ) -> None:
        super().__init__()
        self.architecture, self.n_classes, self.n_features = architecture, n_classes, width
        self.normaliser = Normaliser(mean, std)
        self.dense = nn.ModuleList([nn.Linear(len(mean) * size_px * size_px, width), nn.Linear(width, width)])
        self.linear = nn.Linear(width, n_classes)
        self.layer_names = ("dense1", "dense2")
        _initialise(self)

    def maps(self, x: Tensor, straight_through: bool = False) -> Iterator[tuple[str, Tensor]]:
        """See `Network.maps`."""
        yield from _dense_maps(self.normaliser(x), self.dense, self.layer_names, straight_through)


def _dense_maps(x: Tensor, dense: nn.ModuleList, names: Sequence[str], straight_through: bool) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, (n, width, 1, 1)) of each dense layer after its ReLU; x: images or maps."""
    x = x.flatten(1)
    for name, layer in zip(names, dense, strict=True):
        before = layer(x)
        x = straight_through_relu(before) if straight_through and name == names[-1] else F.relu(before)
        yield name, x[:, :, None, None]


_RESNETS: dict[str, dict[str, object]] = {
    "pool": {"stem": (7, 2), "widths": (16, 32, 64), "n_blocks": 2},
    "w8": {"stem": (7, 1), "widths": (16, 32, 64), "n_blocks": 1},
    "resnet8": {"stem": (3, 1), "widths": (16, 32, 64), "n_blocks": 1},
    "net14": {"stem": (3, 1), "widths": (16, 32, 64), "n_blocks": 2},
    "resnet18": {"stem": (3, 1), "widths": (64, 128, 256, 512), "n_blocks": 2},
}

ARCHITECTURES: tuple[str, ...] = ("tinycnn", *_RESNETS, "lenet", "mlp")


def build(architecture: str, n_classes: int, mean: Sequence[float], std: Sequence[float], seed: int, size_px: int = 32) -> Network:
    """A freshly initialised network; equal seeds give equal weights whatever was drawn before.

    architecture: one of ARCHITECTURES. mean, std: per-channel normaliser in [0, 1] units, one value for each channel of the
    images. size_px: side of the images; only `lenet` and `mlp` depend on it, the others take images of any size.
    Raises BadInput for an unknown architecture, and for images too small for it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture == "tinycnn":
            return TinyCNN(architecture, n_classes, mean, std)
        if architecture in _RESNETS:
            return ResNet(architecture, n_classes, mean, std, **_RESNETS[architecture])  # type: ignore[arg-type]
        if architecture in ("lenet", "mlp"):
            return (LeNet if architecture == "lenet" else MLP)(architecture, n_classes, mean, std, size_px)
    raise BadInput(f"architecture {architecture!r} is unknown; allowed: {', '.join(ARCHITECTURES)}{nearest(architecture, ARCHITECTURES)}")


def weights_sha256(network: Network) -> str:
    """The sha256 over the network's tensors in name order (names, shapes, values): what measurements are kept under."""
    return state_sha256(network.state_dict())


def state_sha256(tensors: Mapping[str, Tensor]) -> str:
    """`weights_sha256` of the network whose state these tensors are."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()


def _initialise(network: nn.Module) -> None:
    """He initialisation of the convolutions (fan out), as in He et al. 2015; BatchNorm starts as the identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
