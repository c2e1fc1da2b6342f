"""Smoothness of filters and of maps: total variation, high-frequency fraction, and how far noise moves either.

Sources: Chen, Agarwal, Nguyen 2020, arXiv 2006.09373, and its code anguyen8/shape-bias (total variation of clean and noisy maps); the
bounded form of noise blocking and the changes of layers are this project's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reprolib.errors import BadInput

DEAD = 1e-8  # mean |a| below which a channel is dead
VANISHING = 1e-6  # of a filter's norm, what its mean leaves is rounding; of a layer's mean TV, the least that r_k divides by
FFT_SIDE = 32
CUTOFF = 0.25  # cycles a px, half of what pixels can hold


def total_variation(maps: Tensor) -> Tensor:
    """Sum of absolute differences of neighbours, down and across, of each map: (n, c) of maps (n, c, h, w).

    Anisotropic, exponent 1, a sum over positions (`tv_per_pixel`, `relative_tv` are not): comparable between maps of one size alone.
    Raises BadInput for other shapes.
    """
    if maps.ndim != 4 or not maps.is_floating_point():
        raise BadInput(f"maps are {maps.dtype} of shape {tuple(maps.shape)}: total variation is of floating point maps (n, c, h, w)")
    return maps.diff(dim=2).abs().sum(dim=(2, 3)) + maps.diff(dim=3).abs().sum(dim=(2, 3))


def tv_per_pixel(maps: Tensor) -> Tensor:
    """Total variation over the number of positions, (n, c)."""
    return total_variation(maps) / (maps.shape[2] * maps.shape[3])


def relative_tv(maps: Tensor) -> Tensor:
    """Total variation over sum |a|, (n, c): free of a map's scale and size; 0 where a map is all 0."""
    size = maps.abs().sum(dim=(2, 3))
    return torch.where(size > 0, total_variation(maps) / size.where(size > 0, torch.ones_like(size)), 0)


@dataclass(frozen=True)
class Filters:
    """Of the filters of a first layer: tv, high_frequency (k,) of those that are not flat; index (k,): which these are; n_flat: how many are."""

    tv: Tensor
    high_frequency: Tensor
    index: Tensor
    n_flat: int


def filters(weight: Tensor) -> Filters:
    """Total variation and high-frequency fraction of a first layer's filters, each less its mean and divided by its L2 norm.

    weight: (o, c, k, k). tv: along rows and columns, summed over channels. high_frequency: share of the power |FFT|^2 (padded with zeros to
    32 x 32, summed over channels) above .25 cycles a px. The mean is over channels and positions; a filter of which it leaves nothing is
    flat, and has neither. Raises BadInput for weights of no convolution, of filters of 3 x 3 or less, and where all are flat.
    """
    if weight.ndim != 4:
        raise BadInput(f"weights of shape {tuple(weight.shape)} are of no convolution: filter statistics are of filters (o, c, k, k)")
    height, width = weight.shape[2:]
    if min(height, width) <= 3:
        raise BadInput(f"filters of {height} x {width} are too small: filter statistics are not asked of 3x3 filters, but from 4x4 on")
    if max(height, width) > FFT_SIDE:
        raise BadInput(f"filters of {height} x {width} are too large: allowed are up to {FFT_SIDE}x{FFT_SIDE}")
    weight = weight.detach().double()
    centred = weight - weight.mean(dim=(1, 2, 3), keepdim=True)
    norm = centred.flatten(1).norm(dim=1)
    index = (norm > VANISHING * weight.flatten(1).norm(dim=1)).nonzero().flatten()
    if not len(index):
        raise BadInput(f"all {len(weight)} filters are flat or zero: there is nothing to measure; give a trained layer")
    unit = centred[index] / norm[index].view(-1, 1, 1, 1)
    power = torch.fft.fft2(unit, s=(FFT_SIDE, FFT_SIDE)).abs().square().sum(dim=1)
    frequency = torch.fft.fftfreq(FFT_SIDE, device=weight.device, dtype=weight.dtype)
    is_high = torch.hypot(frequency[:, None], frequency[None, :]) > CUTOFF
    return Filters(total_variation(unit).sum(dim=1), (power * is_high).sum((1, 2)) / power.sum((1, 2)), index, len(weight) - len(index))


def blocking(clean: Tensor, noisy: Tensor) -> Tensor:
    """b_k = |TVn - TVc| / (TVn + TVc) of mean total variations (c,): 0 where noise leaves no trace, 1 where all there is comes from it."""
    both = noisy + clean
    return (noisy - clean).abs() / both.where(both > 0, torch.ones_like(both))


def relative_blocking(clean: Tensor, noisy: Tensor) -> Tensor:
    """r_k = |TVn - TVc| / TVc of a layer's channels (c,), the divisor at least 1e-6 of the layer's mean; b_k where that is 0."""
    least = torch.maximum(clean, VANISHING * clean.mean())
    return torch.where(least > 0, (noisy - clean).abs() / least.where(least > 0, torch.ones_like(least)), blocking(clean, noisy))


def is_dead(size: Tensor) -> Tensor:
    """Which channels are dead: their mean |a| over all images, size (c,), is below 1e-8."""
    return size < DEAD


def relative_change(moved: Tensor, still: Tensor) -> Tensor:
    """||f(x') - f(x)|| / ||f(x)|| of each image, (n,), from a layer's features (n, ...); of an image that it is silent on 0, or 1 if it wakes.

    Raises BadInput for unequal shapes.
    """
    if moved.shape != still.shape:
        raise BadInput(f"features of shape {tuple(moved.shape)} and {tuple(still.shape)}: a change is between equal ones")
    dims = tuple(range(1, still.ndim))  # not flattened: channels may lie last in memory
    change, size = ((one * one).sum(dim=dims).sqrt() for one in (moved - still, still))
    return torch.where(size > 0, change / size.where(size > 0, torch.ones_like(size)), (change > 0).to(change))
