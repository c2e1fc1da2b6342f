"""Problems with known answers: linear models, codes whose inverses are known, tiny networks, and a tally of what a run costs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reprolib.models.networks import Network, build

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*shape: int, seed: int = 0, low: float = 0.0, high: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform noise images of `shape` in [low, high]."""
    return low + (high - low) * torch.rand(shape, generator=generator(seed), dtype=dtype)


class Linear(nn.Module):
    """Two classes, logits (-z/2, z/2) with z = <w, x - .5>: the nearest image of the other class is known in every norm.

    w: (c, h, w). The margin of an image labelled by the sign of its z is |z| / ||w||_2 in L2 and |z| / ||w||_1 in Linf,
    wherever the pixel range does not come in between.
    """

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def z(self, x: Tensor) -> Tensor:
        """(n,) signed distance times ||w||: above 0 for class 1."""
        return ((x - 0.5) * self.w).flatten(1).sum(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.z(x)
        return torch.stack([-z / 2, z / 2], dim=1)

    def labels(self, x: Tensor) -> Tensor:
        """The classes the model gives: it is right on all of x."""
        return (self.z(x) > 0).long().detach()

    def margin(self, x: Tensor, norm: str) -> Tensor:
        """(n,) distance to the other class: the radius from which on an attack can succeed."""
        return (self.z(x).abs() / (self.w.norm() if norm == "l2" else self.w.abs().sum())).detach()

    def worst(self, x: Tensor, y: Tensor, norm: str, eps: float) -> Tensor:
        """The images of highest loss within eps of x: exact in Linf; in L2 where the pixel range does not come in between."""
        away = self.w.detach() * (1 - 2 * y).view(-1, 1, 1, 1)
        return (x + eps * (away.sign() if norm == "linf" else away / self.w.detach().norm())).clamp(0, 1)


def linear(shape: tuple[int, int, int] = (3, 8, 8), seed: int = 0, dtype: torch.dtype = torch.float32) -> Linear:
    return Linear(torch.randn(shape, generator=generator(seed), dtype=dtype))


def identity_code(x: Tensor) -> Tensor:
    """R(x) = the pixels themselves: inversion must find the target."""
    return x.flatten(1)


def orthonormal(d: int, n: int, seed: int = 0) -> Tensor:
    """(d, n) orthonormal columns: the code x -> x @ columns fixes an image on their span and says nothing about the rest."""
    return torch.linalg.qr(torch.randn((d, n), generator=generator(seed)))[0]


def network(
    architecture: str = "tinycnn", seed: int = 0, n_classes: int = 4, dtype: torch.dtype = torch.float32, size_px: int = 32
) -> Network:
    """A network in eval mode whose BatchNorm is far from the identity, so that a forgotten or doubled one shows."""
    made = build(architecture, n_classes, MEAN, STD, seed, size_px)
    draw = generator(seed + 1)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            n = module.num_features
            with torch.no_grad():
                module.running_mean.copy_(0.3 * torch.randn(n, generator=draw))
                module.running_var.copy_(0.5 + torch.rand(n, generator=draw))
                module.weight.copy_(0.7 + 0.6 * torch.rand(n, generator=draw))
                module.bias.copy_(0.3 * torch.randn(n, generator=draw))
    return made.eval().to(dtype)


def dead_until_bright() -> Network:
    """A TinyCNN all of whose last units are off for a black image and on for a white one; the units below are always on."""
    made = build("tinycnn", 4, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), seed=0).eval()
    with torch.no_grad():
        for conv in made.convs:
            conv.conv.weight.fill_(1 / conv.conv.weight[0].numel())  # each map is the local mean of the one before, plus a bias
            conv.bn.bias.fill_(0.1)
        made.convs[-1].bn.bias.fill_(-0.25)
    return made


class Tally(nn.Module):
    """The identity; counts the forwards and backwards that pass through it. Put it before what is to be counted."""

    def __init__(self) -> None:
        super().__init__()
        self.forwards, self.backwards = 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += 1
        x = x.view_as(x)
        if x.requires_grad:
            x.register_hook(self._count)
        return x

    def _count(self, gradient: Tensor) -> None:
        self.backwards += 1


def tallied(made: Network) -> Tally:
    """The tally of a network's passes: its normaliser is the first module, and every pass goes through it once."""
    tally = Tally()
    made.normaliser = nn.Sequential(tally, made.normaliser)
    return tally


def modes(module: nn.Module) -> list[bool]:
    """The mode of every submodule."""
    return [part.training for part in module.modules()]


def buffers(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the buffers, to be compared bit for bit."""
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


def mixed(made: Network) -> Network:
    """The network in train mode but for one BatchNorm: a mode that a bare train() or eval() cannot bring back."""
    made.train()
    next(part for part in made.modules() if isinstance(part, nn.BatchNorm2d)).eval()
    return made
