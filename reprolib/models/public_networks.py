"""The architectures of networks that others trained, with the normaliser inside and every post-activation map named.

A `Plan` says what a checkpoint's shapes say: family, widths, blocks, classes. `build_public` makes the network of a plan.
Sources: He et al. 2016 (residual networks), Krizhevsky 2014 (AlexNet), Szegedy et al. 2015 (GoogLeNet, as in torchvision),
EhanW/advrob-cifar10 (ResNet-20), oval-group/oval-bab (two convolutions, two linear layers).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprolib.errors import BadInput
from reprolib.models.networks import ConvBN, Network, Normaliser, straight_through_relu

FAMILIES = ("resnet", "alexnet", "googlenet", "oval")


@dataclass(frozen=True)
class Plan:
    """What defines a public network besides its weights.

    widths: channels of the stages (resnet; before the fourfold growth of a bottleneck), of the convolutions and then of the
    hidden linear layers (alexnet, oval); empty for googlenet. n_blocks: blocks a stage (resnet). stem_px: kernel of the
    first convolution; a residual network with a 7 px stem has stride 2 and a max-pool there, and takes 224 px images.
    """

    family: str
    n_classes: int
    widths: tuple[int, ...] = ()
    n_blocks: tuple[int, ...] = ()
    is_bottleneck: bool = False
    stem_px: int = 3

    @property
    def architecture(self) -> str:
        """Its id, e.g. cifar_resnet50: residual networks are named by their depth, (weighted layers without shortcuts)."""
        if self.family != "resnet":
            return self.family
        depth = 2 + sum(self.n_blocks) * (3 if self.is_bottleneck else 2)
        if len(self.n_blocks) == 3:
            return f"resnet{depth}"
        return f"{'imagenet' if self.stem_px == 7 else 'cifar'}_resnet{depth}"

    @property
    def image_px(self) -> int:
        """The side of the images it is made for."""
        return 32 if self.family == "oval" or (self.family == "resnet" and self.stem_px == 3) else 224

    def describe(self) -> dict[str, Any]:
        """Plain JSON; `plan_of` reads it back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def plan_of(described: Mapping[str, Any]) -> Plan:
    """The plan that `Plan.describe` wrote down; raises BadInput for anything else."""
    try:
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in described.items()}
        plan = Plan(**values)
        numbers = (plan.n_classes, plan.stem_px, *plan.widths, *plan.n_blocks)
        if plan.family in FAMILIES and all(isinstance(n, int) and n > 0 for n in numbers):
            return plan
    except (TypeError, AttributeError):
        pass
    raise BadInput(f"{described!r} does not describe a public network: allowed families are {', '.join(FAMILIES)}, all numbers above 0")


RESNET20 = Plan("resnet", 10, (16, 32, 64), (3, 3, 3))
"""The CIFAR ResNet-20 of the pair that is shown beside ours."""


class PublicResNet(Network):
    """A residual network with basic or bottleneck blocks, CIFAR stem (3 px) or ImageNet stem (7 px, stride 2, max-pool)."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        _head(self, plan, n_features=plan.widths[-1] * (4 if plan.is_bottleneck else 1))
        self._pools = plan.stem_px == 7
        self.stem = ConvBN(3, plan.widths[0], plan.stem_px, 2 if self._pools else 1)
        self.stages = nn.ModuleList()
        n_in = plan.widths[0]
        names = ["stem"]
        for s, (width, n_blocks) in enumerate(zip(plan.widths, plan.n_blocks, strict=True)):
            stage = nn.ModuleList()
            for b in range(n_blocks):
                stage.append(_Block(n_in, width, 2 if s > 0 and b == 0 else 1, plan.is_bottleneck))
                n_in = width * (4 if plan.is_bottleneck else 1)
                names += [f"stage{s + 1}.block{b + 1}.relu{i + 1}" for i in range(3 if plan.is_bottleneck else 2)]
            self.stages.append(stage)
        self.layer_names = tuple(names)

    def maps(self, x: Tensor, straight_through: bool = False) -> Iterator[tuple[str, Tensor]]:
        """See `Network.maps`."""
        x = F.relu(self.stem(self.normaliser(x)))
        yield "stem", x
        x = F.max_pool2d(x, 3, 2, 1) if self._pools else x
        blocks = [(s, b, cast(_Block, block)) for s, stage in enumerate(self.stages) for b, block in enumerate(cast(nn.ModuleList, stage))]
        for s, b, block in blocks:
            inner = x
            for i, conv in enumerate(block.convs[:-1]):
                inner = F.relu(conv(inner))
                yield f"stage{s + 1}.block{b + 1}.relu{i + 1}", inner
            outer = block.convs[-1](inner) + block.shortcut(x)
            x = straight_through_relu(outer) if straight_through and block is blocks[-1][2] else F.relu(outer)
            yield f"stage{s + 1}.block{b + 1}.relu{len(block.convs)}", x


class _Block(nn.Module):
    """3x3, 3x3, or 1x1, 3x3, 1x1 with four times the width; a stride stands on the first 3x3, as in every release we read."""

    def __init__(self, n_in: int, width: int, stride: int, is_bottleneck: bool) -> None:
        super().__init__()
        if is_bottleneck:
            self.convs = nn.ModuleList([ConvBN(n_in, width, 1), ConvBN(width, width, 3, stride), ConvBN(width, 4 * width, 1)])
        else:
            self.convs = nn.ModuleList([ConvBN(n_in, width, 3, stride), ConvBN(width, width, 3)])
        n_out = width * (4 if is_bottleneck else 1)
        self.shortcut = nn.Identity() if stride == 1 and n_in == n_out else ConvBN(n_in, n_out, 1, stride)


class _ConvsAndLinears(Network):
    """Convolutions with biases, then hidden linear layers, a ReLU after each; linear codes are maps of 1 x 1 positions."""

    def __init__(self, plan: Plan, convs: Sequence[nn.Conv2d], n_flat: int, hidden: Sequence[int]) -> None:
        super().__init__()
        _head(self, plan, n_features=hidden[-1])
        self.convs = nn.ModuleList(convs)
        self.hidden = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in zip((n_flat, *hidden[:-1]), hidden, strict=True))
        self.layer_names = (
            *(f"conv{i + 1}" for i in range(len(convs))),
            *(f"linear{i + 1}" for i in range(len(hidden))),
        )

    def between(self, x: Tensor, conv: int) -> Tensor:
        """What stands after the ReLU of the convolution of that number: pooling, or nothing."""
        return x

    def maps(self, x: Tensor, straight_through: bool = False) -> Iterator[tuple[str, Tensor]]:
        """See `Network.maps`; the maps of linear layers are (n, c, 1, 1)."""
        x = self.normaliser(x)
        for i, conv in enumerate(self.convs):
            x = F.relu(conv(x))
            yield f"conv{i + 1}", x
            x = self.between(x, i)
        x = x.flatten(1)
        for i, linear in enumerate(self.hidden):
            before = linear(x)
            x = straight_through_relu(before) if straight_through and i == len(self.hidden) - 1 else F.relu(before)
            yield f"linear{i + 1}", x[:, :, None, None]


class AlexNet(_ConvsAndLinears):
    """Five convolutions, two hidden linear layers; the code R is the second one's (4,096 numbers)."""

    def __init__(self, plan: Plan) -> None:
        a, b, c, d, e, *hidden = plan.widths
        convs = [
            nn.Conv2d(3, a, 11, 4, 2),
            nn.Conv2d(a, b, 5, padding=2),
            nn.Conv2d(b, c, 3, padding=1),
            nn.Conv2d(c, d, 3, padding=1),
            nn.Conv2d(d, e, 3, padding=1),
        ]
        super().__init__(plan, convs, e * 36, hidden)

    def between(self, x: Tensor, conv: int) -> Tensor:
        """Max-pooling after convolutions 1, 2 and 5, then averaging to 6 x 6 positions."""
        x = F.max_pool2d(x, 3, 2) if conv in (0, 1, 4) else x
        return F.adaptive_avg_pool2d(x, 6) if conv == 4 else x


class OvalCNN(_ConvsAndLinears):
    """Two 4x4 convolutions of stride 2 and one hidden linear layer, without BatchNorm, for 32 px images."""

    def __init__(self, plan: Plan) -> None:
        a, b, *hidden = plan.widths
        super().__init__(plan, [nn.Conv2d(3, a, 4, 2, 1), nn.Conv2d(a, b, 4, 2, 1)], b * 64, hidden)


class GoogLeNet(Network):
    """torchvision's GoogLeNet without its auxiliary heads; the maps are those after its convolutions and its nine modules."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        _head(self, plan, n_features=1024)
        import torchvision  # only here: it takes a second, and a gigabyte of modules that nothing else needs

        self.body = torchvision.models.GoogLeNet(num_classes=1, aux_logits=False, init_weights=False)
        self.body.fc = nn.Identity()
        self._steps = tuple(name for name, _ in self.body.named_children() if name.startswith(("conv", "maxpool", "inception")))
        self.layer_names = tuple(name for name in self._steps if not name.startswith("maxpool"))

    def maps(self, x: Tensor, straight_through: bool = False) -> Iterator[tuple[str, Tensor]]:
        """See `Network.maps`."""
        x = self.normaliser(x)
        for name in self._steps:
            step = self.body.get_submodule(name)
            x = _inception_straight_through(step, x) if straight_through and name == self._steps[-1] else step(x)
            if not name.startswith("maxpool"):
                yield name, x


def _inception_straight_through(module: Any, x: Tensor) -> Tensor:
    """An inception module whose last ReLUs pass gradients to units that are off."""
    ends = [(module.branch1, x), *((branch[1], branch[0](x)) for branch in (module.branch2, module.branch3, module.branch4))]
    return straight_through_relu(torch.cat([end.bn(end.conv(value)) for end, value in ends], dim=1))


class Ensemble(Network):
    """Networks that vote: the logits are the logarithm of their mean probability. It has no layers of its own: see `members`.

    RobustBench's ensembles return the mean probability itself; the softmax of these logits is that.
    """

    def __init__(self, members: Sequence[Network]) -> None:
        super().__init__()
        if len({member.n_classes for member in members}) != 1:
            raise BadInput(f"the members of an ensemble have {[member.n_classes for member in members]} classes: they must agree")
        self.members = nn.ModuleList(members)
        self.architecture = "+".join(member.architecture for member in members)
        self.n_classes, self.n_features, self.layer_names = members[0].n_classes, 0, ()

    def maps(self, x: Tensor, straight_through: bool = False) -> Iterator[tuple[str, Tensor]]:
        """Raises BadInput: an ensemble has no maps."""
        raise BadInput(f"an ensemble ({self.architecture}) has no maps of its own: take those of one of its `members`")

    def forward(self, x: Tensor) -> Tensor:
        """(n, n_classes): log of the mean over members of softmax(logits)."""
        votes = torch.stack([member(x).log_softmax(dim=1) for member in self.members])
        return votes.logsumexp(dim=0) - math.log(len(votes))


_FAMILIES = {"resnet": PublicResNet, "alexnet": AlexNet, "googlenet": GoogLeNet, "oval": OvalCNN}


def build_public(plan: Plan) -> Network:
    """The network of a plan, without storage for its weights (on the meta device): load a state with `assign=True`.

    Draws no random numbers. Raises BadInput when the plan's widths do not fit its family.
    """
    needed = {"resnet": len(plan.n_blocks), "alexnet": 7, "googlenet": 0, "oval": 3}.get(plan.family, -1)
    if len(plan.widths) != needed or (plan.family == "resnet" and needed == 0):
        raise BadInput(f"{len(plan.widths)} widths do not make a {plan.family!r}: allowed are {', '.join(FAMILIES)} with all their widths")
    with torch.device("meta"):
        return _FAMILIES[plan.family](plan)


def _head(network: Network, plan: Plan, n_features: int) -> None:
    """What every public network has: its id, its normaliser (filled when the weights are) and its linear head."""
    network.architecture, network.n_classes, network.n_features = plan.architecture, plan.n_classes, n_features
    network.normaliser = Normaliser((0.0,) * 3, (1.0,) * 3)
    network.linear = nn.Linear(n_features, plan.n_classes)
