"""The architectures of the study, with the normaliser as first module.

Every network takes images in [0, 1], (n, c, h, w), and runs as a sequence of named steps, so that any post-activation
map can be read off by name (`reprolib.models.layers`). Sources: He et al. 2016 for the residual blocks; widths and stems
are this project's (small enough for a laptop).
"""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprolib.boundary import own_state
from reprolib.errors import BadInput, nearest

MINE = "mine"
"""The role of a reader's own network in rows and figures. No claim has an arm of that name, so it takes part in no verdict."""


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


def relu(x: Tensor, straight_through: bool = False) -> Tensor:
    """ReLU; straight_through: with the identity as its gradient ("fake ReLU" in MadryLab/robustness)."""
    return _StraightThroughReLU.apply(x) if straight_through else F.relu(x)


class Network(nn.Module):
    """A classifier that yields its post-activation maps in execution order.

    Attributes: `architecture` (its id), `n_classes`, `layer_names` (every post-activation map, in execution order),
    `n_features` (length of the globally pooled code). The last named map is the one before global pooling.
    """

    card: dict[str, Any]  # of networks that come from the zoo, as is
    sha256: str  # of the weights
    normaliser_source: str  # of public checkpoints
    linear: nn.Linear  # a subclass makes it last: the order of the modules is that in which weights are drawn

    def __init__(
        self, architecture: str, n_classes: int, n_features: int, layer_names: Sequence[str], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.architecture, self.n_classes, self.n_features, self.layer_names = architecture, n_classes, n_features, tuple(layer_names)
        self.normaliser = Normaliser(mean, std)

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


class Residual(Network):
    """What residual networks compute: a stem, blocks of convolutions with a shortcut, global pooling, a linear head."""

    stem: ConvBN
    pools: bool = False  # whether a max-pool follows the stem

    def named_blocks(self) -> Iterator[tuple[str, Sequence[nn.Module], nn.Module]]:
        """Yield (name, convolutions, shortcut) of each block, in execution order."""
        raise TypeError(f"{type(self).__name__} must define named_blocks()")

    def maps(self, x: Tensor, straight_through: bool = False) -> Iterator[tuple[str, Tensor]]:
        """See `Network.maps`."""
        x = F.relu(self.stem(self.normaliser(x)))
        yield "stem", x
        x = F.max_pool2d(x, 3, 2, 1) if self.pools else x
        for name, convs, shortcut in self.named_blocks():
            inner = x
            for i, conv in enumerate(convs[:-1]):
                inner = F.relu(conv(inner))
                yield f"{name}.relu{i + 1}", inner
            last = f"{name}.relu{len(convs)}"
            x = relu(convs[-1](inner) + shortcut(x), straight_through and last == self.layer_names[-1])
            yield last, x


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut (1x1 convolution where the shape changes), post-activation."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.first = ConvBN(n_in, n_out, 3, stride)
        self.second = ConvBN(n_out, n_out, 3)
        self.shortcut = nn.Identity() if stride == 1 and n_in == n_out else ConvBN(n_in, n_out, 1, stride)


class ResNet(Residual):
    """A residual network of ours: stem, stages of blocks (the first block of each later stage halves the map).

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
        names = [f"stage{s + 1}.block{b + 1}" for s in range(len(widths)) for b in range(n_blocks)]
        layer_names = ("stem", *(f"{name}.{part}" for name in names for part in ("relu1", "relu2")))
        super().__init__(architecture, n_classes, widths[-1], layer_names, mean, std)
        self._names = names
        self.stem = ConvBN(len(mean), widths[0], *stem)
        self.blocks = nn.ModuleList()
        n_in = widths[0]
        for stage, width in enumerate(widths):
            for block in range(n_blocks):
                self.blocks.append(_Block(n_in, width, 2 if stage > 0 and block == 0 else 1))
                n_in = width
        self.linear = nn.Linear(n_in, n_classes)
        _initialise(self)

    def named_blocks(self) -> Iterator[tuple[str, Sequence[nn.Module], nn.Module]]:
        """See `Residual.named_blocks`."""
        for name, block in zip(self._names, cast(Iterable[_Block], self.blocks), strict=True):
            yield name, (block.first, block.second), block.shortcut


class ConvNet(Network):
    """Convolutions, then hidden dense layers, a ReLU after each, then global pooling and linear; dense layers count as maps of 1 x 1.

    convs: the modules, in order. dense: the length of what the first dense layer is given, and the widths of the dense layers; or
    nothing. pool: what a map goes through on its way on, given the number of its convolution; maps are those before it.
    """

    def __init__(
        self,
        architecture: str,
        n_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        convs: Sequence[nn.Module],
        dense: Sequence[int] = (),
        n_features: int = 0,
        pool: Callable[[Tensor, int], Tensor] = lambda x, conv: x,
    ) -> None:
        names = [f"conv{i + 1}" for i in range(len(convs))] + [f"dense{i + 1}" for i in range(len(dense) - 1)]
        super().__init__(architecture, n_classes, n_features or dense[-1], names, mean, std)
        self.convs = nn.ModuleList(convs)
        self.dense = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in itertools.pairwise(dense))
        self.linear = nn.Linear(self.n_features, n_classes)
        self._pool = pool

    def maps(self, x: Tensor, straight_through: bool = False) -> Iterator[tuple[str, Tensor]]:
        """See `Network.maps`."""
        x = self.normaliser(x)
        for i, conv in enumerate(self.convs):
            name = self.layer_names[i]
            x = relu(conv(x), straight_through and name == self.layer_names[-1])
            yield name, x
            x = self._pool(x, i)
        for name, layer in zip(self.layer_names[len(self.convs) :], self.dense, strict=True):
            x = relu(layer(x.flatten(1)), straight_through and name == self.layer_names[-1])
            yield name, x[:, :, None, None]


_RESNETS: dict[str, dict[str, object]] = {
    "pool": {"stem": (7, 2), "widths": (16, 32, 64), "n_blocks": 2},
    "w8": {"stem": (7, 1), "widths": (16, 32, 64), "n_blocks": 1},
    "resnet8": {"stem": (3, 1), "widths": (16, 32, 64), "n_blocks": 1},
    "net14": {"stem": (3, 1), "widths": (16, 32, 64), "n_blocks": 2},
    "resnet18": {"stem": (3, 1), "widths": (64, 128, 256, 512), "n_blocks": 2},
}

ARCHITECTURES: tuple[str, ...] = ("tinycnn", *_RESNETS, "lenet", "mlp")
CAPSULES = "capsnet_small"
"""Built by name like the others, but without their linear head (`reprolib.models.capsnet`): only what asks for classes takes it."""


@own_state()
def build(architecture: str, n_classes: int, mean: Sequence[float], std: Sequence[float], seed: int, size_px: int = 32) -> Network:
    """A freshly initialised network; equal seeds give equal weights whatever was drawn before.

    architecture: one of ARCHITECTURES, or CAPSULES. mean, std: per-channel normaliser in [0, 1] units, one value for each channel of the
    images. size_px: side of the images; only `lenet`, `mlp` and CAPSULES depend on it, the others take images of any size.
    Raises BadInput for an unknown architecture, and for images too small for it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture in _RESNETS:
            return ResNet(architecture, n_classes, mean, std, **_RESNETS[architecture])  # type: ignore[arg-type]
        if architecture in ("tinycnn", "lenet", "mlp"):
            network = _convnet(architecture, n_classes, mean, std, size_px)
            _initialise(network)
            return network
        if architecture == CAPSULES:
            from reprolib.models.capsnet import CapsNet  # which stands on this module

            capsnet = CapsNet(n_classes, mean, std, size_px)
            _initialise(capsnet)
            return capsnet
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


def _convnet(architecture: str, n_classes: int, mean: Sequence[float], std: Sequence[float], size_px: int) -> ConvNet:
    """The architectures without shortcuts; their weights are drawn here."""
    if architecture == "tinycnn":  # BatchNorm; the last two of stride 2
        convs = [ConvBN(len(mean), 16, 3), ConvBN(16, 32, 3, 2), ConvBN(32, 64, 3, 2)]
        return ConvNet(architecture, n_classes, mean, std, convs, n_features=64)
    if architecture == "mlp":
        return ConvNet(architecture, n_classes, mean, std, [], (len(mean) * size_px * size_px, 256, 256))
    side = ((size_px - 4) // 2 - 4) // 2
    if side < 1:
        raise BadInput(f"size_px={size_px} is too small for lenet: images of at least 16 px a side")
    # LeNet-5 (LeCun et al. 1998), with ReLU and max-pooling, without BatchNorm
    plain = [nn.Conv2d(len(mean), 6, 5), nn.Conv2d(6, 16, 5)]
    return ConvNet(architecture, n_classes, mean, std, plain, (16 * side * side, 120, 84), pool=lambda x, conv: F.max_pool2d(x, 2))


def _initialise(network: nn.Module) -> None:
    """He initialisation of the convolutions (fan out), as in He et al. 2015; BatchNorm starts as the identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
