"""The architectures of networks that others trained, with the normaliser inside and every post-activation map named.

A `Plan` says what a checkpoint's shapes say: family, widths, blocks, classes. `build_public` makes the network of a plan.
Sources: He et al. 2016 (residual networks), Krizhevsky 2014 (AlexNet), Szegedy et al. 2015 (GoogLeNet, as in torchvision),
EhanW/advrob-cifar10 (ResNet-20), oval-group/oval-bab (two convolutions, two linear layers).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprolib.errors import BadInput
from reprolib.models.networks import ConvBN, ConvNet, Network, Residual, relu

IDENTITY = ((0.0,) * 3, (1.0,) * 3)  # the normaliser until the weights are filled in


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

    @property
    def assumed(self) -> list[str]:
        """What tensors do not say, in words."""
        if self.family == "resnet":
            stem = "stride 2 and a max-pool after" if self.stem_px == 7 else "stride 1 and no max-pool after"
            return [
                f"{stem} its stem of {self.stem_px} px, as in the releases known here",
                "strides on the first 3x3 convolution of a stage",
            ]
        return [f"strides and pooling of {self.family}, as released"]

    def describe(self) -> dict[str, Any]:
        """Plain JSON; `plan_of` reads it back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def plan_of(described: Mapping[str, Any]) -> Plan:
    """The plan that `Plan.describe` wrote down; raises TypeError for anything else."""
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in described.items()}
    return Plan(**values)


RESNET20 = Plan("resnet", 10, (16, 32, 64), (3, 3, 3))
"""The CIFAR ResNet-20 of the pair that is shown beside ours."""


class PublicResNet(Residual):
    """A residual network with basic or bottleneck blocks, CIFAR stem (3 px) or ImageNet stem (7 px, stride 2, max-pool)."""

    def __init__(self, plan: Plan) -> None:
        growth, n_convs = (4, 3) if plan.is_bottleneck else (1, 2)
        places = [f"stage{s + 1}.block{b + 1}" for s, n_blocks in enumerate(plan.n_blocks) for b in range(n_blocks)]
        names = ("stem", *(f"{place}.relu{i + 1}" for place in places for i in range(n_convs)))
        super().__init__(plan.architecture, plan.n_classes, growth * plan.widths[-1], names, *IDENTITY)
        self.pools = plan.stem_px == 7
        self.stem = ConvBN(3, plan.widths[0], plan.stem_px, 2 if self.pools else 1)
        self.stages = nn.ModuleList()
        n_in = plan.widths[0]
        for s, (width, n_blocks) in enumerate(zip(plan.widths, plan.n_blocks, strict=True)):
            stage = nn.ModuleList()
            for b in range(n_blocks):
                stage.append(_Block(n_in, width, 2 if s > 0 and b == 0 else 1, plan.is_bottleneck))
                n_in = growth * width
            self.stages.append(stage)
        self.linear = nn.Linear(n_in, plan.n_classes)

    def named_blocks(self) -> Iterator[tuple[str, Sequence[nn.Module], nn.Module]]:
        """See `Residual.named_blocks`."""
        for s, stage in enumerate(cast(Iterable[Iterable[_Block]], self.stages)):
            for b, block in enumerate(stage):
                yield f"stage{s + 1}.block{b + 1}", [*block.convs], block.shortcut


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


def _alexnet(plan: Plan) -> ConvNet:
    """Five convolutions, two hidden dense layers; the code R is the second one's (4,096 numbers)."""
    a, b, c, d, e, *hidden = plan.widths
    convs = [nn.Conv2d(3, a, 11, 4, 2), nn.Conv2d(a, b, 5, padding=2)]
    convs += [nn.Conv2d(n_in, n_out, 3, padding=1) for n_in, n_out in ((b, c), (c, d), (d, e))]

    def pool(x: Tensor, conv: int) -> Tensor:
        x = F.max_pool2d(x, 3, 2) if conv in (0, 1, 4) else x
        return F.adaptive_avg_pool2d(x, 6) if conv == 4 else x

    return ConvNet(plan.architecture, plan.n_classes, *IDENTITY, convs, (e * 36, *hidden), pool=pool)


def _oval(plan: Plan) -> ConvNet:
    """Two 4x4 convolutions of stride 2 and one hidden dense layer, without BatchNorm, for 32 px images."""
    a, b, *hidden = plan.widths
    convs = [nn.Conv2d(3, a, 4, 2, 1), nn.Conv2d(a, b, 4, 2, 1)]
    return ConvNet(plan.architecture, plan.n_classes, *IDENTITY, convs, (b * 64, *hidden))


class GoogLeNet(Network):
    """torchvision's GoogLeNet without its auxiliary heads; the maps are those after its convolutions and its nine modules."""

    def __init__(self, plan: Plan) -> None:
        import torchvision  # only here: it takes a second, and a gigabyte of modules that nothing else needs

        body = torchvision.models.GoogLeNet(num_classes=1, aux_logits=False, init_weights=False)
        self._steps = tuple(name for name, _ in body.named_children() if name.startswith(("conv", "maxpool", "inception")))
        names = [name for name in self._steps if not name.startswith("maxpool")]
        super().__init__(plan.architecture, plan.n_classes, 1024, names, *IDENTITY)
        self.body = body
        self.body.fc = nn.Identity()
        self.linear = nn.Linear(1024, plan.n_classes)

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
    return relu(torch.cat([end.bn(end.conv(value)) for end, value in ends], dim=1), straight_through=True)


class Ensemble(Network):
    """Networks that vote: the logits are the logarithm of their mean probability. It has no layers of its own: see `members`.

    RobustBench's ensembles return the mean probability itself; the softmax of these logits is that.
    """

    def __init__(self, members: Sequence[Network]) -> None:
        if len({member.n_classes for member in members}) != 1:
            raise BadInput(f"the members of an ensemble have {[member.n_classes for member in members]} classes: they must agree")
        super().__init__("+".join(member.architecture for member in members), members[0].n_classes, 0, (), *IDENTITY)
        self.members = nn.ModuleList(members)

    def maps(self, x: Tensor, straight_through: bool = False) -> Iterator[tuple[str, Tensor]]:
        """Raises BadInput: an ensemble has no maps."""
        raise BadInput(f"an ensemble ({self.architecture}) has no maps of its own: take those of one of its `members`")

    def forward(self, x: Tensor) -> Tensor:
        """(n, n_classes): log of the mean over members of softmax(logits)."""
        votes = torch.stack([member(x).log_softmax(dim=1) for member in self.members])
        return votes.logsumexp(dim=0) - math.log(len(votes))


_FAMILIES = {"resnet": PublicResNet, "alexnet": _alexnet, "googlenet": GoogLeNet, "oval": _oval}


def build_public(plan: Plan) -> Network:
    """The network of a plan, without storage for its weights (on the meta device): load a state with `assign=True`.

    Draws no random numbers. Raises BadInput when the plan's numbers do not fit its family.
    """
    needed = {"resnet": len(plan.n_blocks), "alexnet": 7, "googlenet": 0, "oval": 3}.get(plan.family, -1)
    numbers = (plan.n_classes, plan.stem_px, *plan.widths, *plan.n_blocks)
    is_whole = all(isinstance(n, int) and n > 0 for n in numbers)
    if len(plan.widths) != needed or not is_whole or (plan.family == "resnet" and needed == 0):
        raise BadInput(
            f"{plan} does not make a public network: allowed are {', '.join(_FAMILIES)} with all their widths, all numbers above 0"
        )
    with torch.device("meta"):
        return _FAMILIES[plan.family](plan)
