"""CapsNet-small: capsules whose lengths say how present a class is, joined by routing. Source: Sabour et al. 2017 (arXiv 1710.09829).

Widths are this project's: a 9x9 convolution to 64 channels, 8 types of 8-dimensional primary capsules (9x9, stride 2), one
16-dimensional capsule a class, three iterations of routing, a decoder. Routing is part of the function of ONE image: its logits are
0 at each forward, for each image, and nothing of it is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprolib.errors import BadInput
from reprolib.models.networks import Network, relu

N_CHANNELS, N_TYPES, PRIMARY, CLASS = 64, 8, 8, 16  # of the first convolution; of primary capsules; dimensions of either kind
ITERATIONS = 3
PRESENT, ABSENT, WEIGHT_OF_ABSENT = 0.9, 0.1, 0.5  # lengths that the margin loss asks for
WEIGHT_OF_DECODER = 0.1  # of its mean squared error
TINY = 1e-8  # under the root: a capsule of length 0 has a gradient too


class CapsNet(Network):
    """The network; `forward` gives logarithms of lengths, so that a softmax of them is the lengths normalised to sum 1.

    Its last map, (n, 16 N, 1, 1), is all class capsules in order: what R(x) is here. It has no linear head, and no ReLU but the first.
    """

    def __init__(self, n_classes: int, mean: Sequence[float], std: Sequence[float], size_px: int) -> None:
        side = (size_px - 8 - 9) // 2 + 1
        if side < 1:
            raise BadInput(f"size_px={size_px} is too small for capsnet_small: images of at least 17 px a side")
        super().__init__("capsnet_small", n_classes, CLASS * n_classes, ("conv1", "primary", "capsules"), mean, std)
        self.conv = nn.Conv2d(len(mean), N_CHANNELS, 9)
        self.primary = nn.Conv2d(N_CHANNELS, N_TYPES * PRIMARY, 9, stride=2)
        self.votes = nn.Parameter(0.1 * torch.randn(N_TYPES * side * side, PRIMARY, n_classes * CLASS))
        n_pixels = len(mean) * size_px * size_px
        widths = ((CLASS * n_classes, 512), (512, 1024), (1024, n_pixels))
        self.decoder = nn.Sequential(*(part for pair in widths for part in (nn.Linear(*pair), nn.ReLU())))
        self.decoder[-1] = nn.Sigmoid()  # its targets are the images, in [0, 1], not normalised

    def maps(self, x: Tensor, straight_through: bool = False) -> Iterator[tuple[str, Tensor]]:
        """See `Network.maps`: the first convolution, the primary capsules, the class capsules."""
        x = relu(self.conv(self.normaliser(x)))
        yield "conv1", x
        x = self.primary(x).unflatten(1, (N_TYPES, PRIMARY))
        x = squash(x, dim=2)
        yield "primary", x.flatten(1, 2)
        u = x.permute(1, 3, 4, 0, 2).flatten(0, 2)  # (primary capsules, n, 8)
        with torch.autocast(x.device.type, enabled=False):
            votes = (u.float() @ self.votes).unflatten(2, (self.n_classes, CLASS)).permute(1, 2, 0, 3)  # (n, N, primary capsules, 16)
            capsules, _ = route(votes.contiguous())
        yield "capsules", capsules.flatten(1)[:, :, None, None]

    def capsules(self, x: Tensor) -> Tensor:
        """Class capsules (n, N, 16) of images x (n, c, h, w) in [0, 1]."""
        *_, (_, last) = self.maps(x)
        return last.reshape(len(x), self.n_classes, CLASS)

    def forward(self, x: Tensor) -> Tensor:
        """Logarithms of the capsules' lengths (n, N)."""
        return length(self.capsules(x)).log()

    def decode(self, capsules: Tensor, labels: Tensor) -> Tensor:
        """Images as (n, c h w) in [0, 1] of capsules (n, N, 16), from that of the labelled class (n,) alone."""
        return self.decoder((capsules * F.one_hot(labels, self.n_classes)[:, :, None]).flatten(1))

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """What its training lowers, a scalar: the margin loss of labels (n,), and a share of the decoder's mean squared error."""
        capsules = self.capsules(images)
        rebuilt = self.decode(capsules, labels).float()
        return margin_loss(length(capsules), labels) + WEIGHT_OF_DECODER * F.mse_loss(rebuilt, images.flatten(1))


def route(votes: Tensor, iterations: int = ITERATIONS) -> tuple[Tensor, Tensor]:
    """Class capsules (n, N, d) by agreement of votes (n, N, capsules, d), and the last couplings (n, N, capsules).

    Couplings of one voting capsule sum to 1 over the N outputs. Logits begin at 0; gradients pass through all iterations.
    """
    logits = votes.new_zeros(votes.shape[:3])
    for i in range(iterations):
        couplings = logits.softmax(dim=1)
        found = squash((couplings[:, :, None] @ votes)[:, :, 0], dim=2)
        if i < iterations - 1:
            logits = logits + (votes @ found[..., None])[..., 0]
    return found, couplings


def squash(s: Tensor, dim: int) -> Tensor:
    """Vectors along `dim` shortened to a length in [0, 1): |s|^2 / (1 + |s|^2)."""
    square = s.square().sum(dim=dim, keepdim=True)
    return s * square / (1 + square) / (square + TINY).sqrt()


def length(capsules: Tensor) -> Tensor:
    """Lengths (n, N) of capsules (n, N, d), at least 1e-4."""
    return (capsules.square().sum(dim=2) + TINY).sqrt()


def margin_loss(lengths: Tensor, labels: Tensor) -> Tensor:
    """Mean over images of squared misses: below .9 of the labelled class (n,), above .1 of each other, these by half. lengths: (n, N)."""
    is_present = F.one_hot(labels, lengths.shape[1])
    short, long = (PRESENT - lengths).clamp(min=0).square(), (lengths - ABSENT).clamp(min=0).square()
    return (is_present * short + WEIGHT_OF_ABSENT * (1 - is_present) * long).sum(dim=1).mean()
