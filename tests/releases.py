"""Networks as their publishers define and name them, with random weights: what a reader of checkpoints is held against.

Written from the publishers' definitions with plain torch modules, so that nothing here shares a mistake with the library.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import problems
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

State = dict[str, Tensor]

X = problems.images(3, 3, 32, 32)


def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in eval mode with every parameter and statistic far from its default."""
    draw = problems.generator(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=draw))
                module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=draw))
                module.weight.copy_(0.7 + 0.6 * torch.rand(module.num_features, generator=draw))
                module.bias.copy_(0.3 * torch.randn(module.num_features, generator=draw))
            elif isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(torch.randn(module.weight.shape, generator=draw) * (2 / module.weight[0].numel()) ** 0.5)
                if module.bias is not None:
                    module.bias.copy_(0.3 * torch.randn(module.bias.shape, generator=draw))
    return model.eval()


class MadryBlock(nn.Module):
    """A block of MadryLab/robustness' CIFAR networks; n_convs 2 (basic) or 3 (bottleneck)."""

    def __init__(self, n_in: int, width: int, stride: int, n_convs: int) -> None:
        super().__init__()
        self.n_convs = n_convs
        n_out = width * (4 if n_convs == 3 else 1)
        kernels = ((3, stride, 1), (3, 1, 1)) if n_convs == 2 else ((1, 1, 0), (3, stride, 1), (1, 1, 0))
        channels = (n_in, width, n_out) if n_convs == 2 else (n_in, width, width, n_out)
        for i, (kernel, step, padding) in enumerate(kernels):
            self.add_module(f"conv{i + 1}", nn.Conv2d(channels[i], channels[i + 1], kernel, step, padding, bias=False))
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(channels[i + 1]))
        self.shortcut = nn.Sequential()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for i in range(1, self.n_convs + 1):
            out = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(out))
            if i < self.n_convs:
                out = F.relu(out)
        return F.relu(out + self.shortcut(x))


class MadryCifar(nn.Module):
    """MadryLab/robustness' CIFAR ResNet: conv1, bn1, layer1 to layer4, linear."""

    def __init__(self, n_blocks: tuple[int, ...] = (2, 2, 2, 2), n_convs: int = 2, width: int = 4, n_classes: int = 10) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        n_in, growth = width, 4 if n_convs == 3 else 1
        for s, n in enumerate(n_blocks):
            stage = []
            for b in range(n):
                stage.append(MadryBlock(n_in, width * 2**s, 2 if s > 0 and b == 0 else 1, n_convs))
                n_in = width * 2**s * growth
            self.add_module(f"layer{s + 1}", nn.Sequential(*stage))
        self.linear = nn.Linear(n_in, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for s in range(1, 5):
            x = getattr(self, f"layer{s}")(x)
        return self.linear(F.avg_pool2d(x, 4).flatten(1))


def narrow_alexnet(n_classes: int = 1000) -> nn.Module:
    """torchvision's AlexNet with few channels."""
    with torch.device("meta"):
        model = torchvision.models.AlexNet(num_classes=n_classes)
    channels = (3, 4, 6, 8, 5, 4)
    for i, place in enumerate((0, 3, 6, 8, 10)):
        old = model.features[place]
        model.features[place] = nn.Conv2d(channels[i], channels[i + 1], old.kernel_size, old.stride, old.padding)
    for place, n_in, n_out in ((1, 144, 12), (4, 12, 10), (6, 10, n_classes)):
        model.classifier[place] = nn.Linear(n_in, n_out)
    return shaken(model)


def shape_bias_alexnet(alexnet: nn.Module) -> State:
    """The names of anguyen8/shape-bias: the head is `last_layer`."""
    return {name.replace("classifier.6.", "last_layer."): t for name, t in alexnet.state_dict().items()}


def oval() -> nn.Module:
    """oval-group/oval-bab's network: a Sequential, hence numbered names."""
    convs = [nn.Conv2d(3, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten()]
    return shaken(nn.Sequential(*convs, nn.Linear(2048, 100), nn.ReLU(), nn.Linear(100, 10)))


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> State:
    """Every name with the prefix before it."""
    return {prefix + name: tensor for name, tensor in state.items()}


def buffers(mean: tuple[float, ...], std: tuple[float, ...], names: tuple[str, str], shape: tuple[int, ...] = (3, 1, 1)) -> State:
    """A normaliser's tensors under a publisher's names."""
    return {name: torch.tensor(values).view(shape) for name, values in zip(names, (mean, std), strict=True)}


def madry(state: Mapping[str, Tensor], mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None) -> State:
    """The state of robustness' DataParallel(AttackerModel): network, its copy in the attacker, normalisers where given."""
    made = OrderedDict()
    if mean is not None and std is not None:
        made |= buffers(mean, std, ("module.normalizer.new_mean", "module.normalizer.new_std"))
        made |= buffers(mean, std, ("module.attacker.normalize.new_mean", "module.attacker.normalize.new_std"))
    return made | prefixed("module.model.", state) | prefixed("module.attacker.model.", state)


def normalised(model: nn.Module, x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """The logits a publisher's code gives for images in [0, 1]."""
    with torch.no_grad():
        return model((x - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1))


def gives(network: nn.Module, expected: Tensor, x: Tensor = X) -> bool:
    """Whether the logits are the very ones expected, and the network is ready to measure."""
    assert not any(module.training for module in network.modules())
    assert not any(p.requires_grad or p.dtype != torch.float32 for p in network.parameters())
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected, rtol=1e-5, atol=1e-5)
    return True
