"""How far apart two images are, or two codes, one number per image. Sources: Wang et al. 2004 (SSIM), Zhang et al. 2018 (perceptual distance).

Everywhere below: images are (n, c, h, w), float32 or float64, on any device, meant to lie in [0, 1]. Values outside [0, 1] are
not refused: only the two constants of SSIM assume the range 1. Each function returns (n,), in the dtype of its input, and
raises BadInput for another dtype, shapes that differ, or n = 0. What is no number in an image or a code stays one that is not, in
that image's result alone. In full precision whatever the autocast state; differentiable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from reprolib.errors import BadInput
from reprolib.measures.gram import full_precision

SSIM_SIGMA_PX = 1.5  # Wang et al. 2004: a Gaussian window of 11 x 11, so 3.5 sigma to each side
SSIM_RADIUS_PX = 5
SSIM_K1, SSIM_K2 = 0.01, 0.03
REFERENCE_SIDE_PX = 32  # the side at which the low-pass sigma is given


def relative_distance(r: Tensor, r_target: Tensor) -> Tensor:
    """d_rep: the distance of two codes in units of the target's norm, ||r - r_target|| / max(||r_target||, 1e-12).

    r, r_target: (n, ...), flattened per example. Returns (n,), non-negative; it is not symmetric.
    Source: Engstrom et al. 2019 (arXiv 1906.00945), the image inversion notebook.
    """
    _check_pair(r, r_target, "r", "r_target", is_image=False)
    difference, target = (r - r_target).flatten(1), r_target.flatten(1)
    return difference.norm(dim=1) / target.norm(dim=1).clamp_min(1e-12)


def random_pair_median(r: Tensor, n_pairs: int = 1000, generator: torch.Generator | None = None) -> float:
    """The median relative distance between the codes of two different, randomly drawn images: the unit of d_rel = d_rep / median.

    r: (n, ...), n >= 2, codes of n images. generator: a CPU generator; the global one when absent.
    """
    _check(r, "r", is_image=False)
    n = len(r)
    if n < 2:
        raise BadInput(f"r holds {n} codes: a pair needs at least 2; give the codes of more images")
    if n_pairs < 1:
        raise BadInput(f"n_pairs={n_pairs} is not allowed: give at least 1")
    first = torch.randint(n, (n_pairs,), generator=generator)
    second = (first + torch.randint(1, n, (n_pairs,), generator=generator)) % n  # a shift by 1 to n - 1 never meets itself
    return relative_distance(r[first.to(r.device)], r[second.to(r.device)]).quantile(0.5).item()


def pixel_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Correlation of the pixels of two images, every channel centred on its own mean, so that a tint shared by both counts for nothing.

    Returns values in [-1, 1]; 0 where one image is constant in every channel: the correlation is undefined there, and a
    featureless image must not count as a likeness.
    """
    _check_pair(a, b)
    return _correlation(a, b)


@full_precision()
def edge_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Correlation of the two gradient-magnitude maps: do the edges lie in the same places, whatever their sign or colour?

    The gradient is Sobel's, its magnitude taken over the channels jointly; positions whose window leaves the image are left
    out. Sides of at least 3 px. Returns values in [-1, 1]; 0 where one image has no edge, or the same everywhere.
    """
    _check_pair(a, b, least_px=3)
    return _correlation(_gradient_magnitude(a), _gradient_magnitude(b))


@full_precision()
def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity, data range 1: Gaussian window of sigma 1.5 px and 11 px (less on smaller images), mean over channels.

    Averaged over the positions whose whole window lies inside the image, with the window's variance as a population variance.
    The window of an image with a side under 11 px is cut to the largest odd side that fits. Returns values in [-1, 1]; 1 for equals.
    """
    _check_pair(a, b)
    radius = min(SSIM_RADIUS_PX, (min(a.shape[-2:]) - 1) // 2)
    kernel = _gaussian(SSIM_SIGMA_PX, radius, a)
    mean_a, mean_b = _separable(a, kernel), _separable(b, kernel)
    variance_a = _separable(a * a, kernel) - mean_a**2
    variance_b = _separable(b * b, kernel) - mean_b**2
    covariance = _separable(a * b, kernel) - mean_a * mean_b
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


@full_precision()
def lowpass_mse(a: Tensor, b: Tensor, sigma_px: float = 1.5) -> Tensor:
    """Mean squared difference of the two images after a Gaussian blur.

    sigma_px: standard deviation at a side of 32 px, scaled with the shorter side; 0 gives the plain mean squared difference.
    The border repeats its last pixel; the Gaussian is cut at 4 sigma.
    """
    _check_pair(a, b)
    if not (math.isfinite(sigma_px) and sigma_px >= 0):
        raise BadInput(f"sigma_px={sigma_px} is not allowed: give a finite width of at least 0, e.g. 1.5")
    difference = a - b  # blurring is linear, so once is enough
    sigma = sigma_px * min(a.shape[-2:]) / REFERENCE_SIDE_PX
    radius = int(4 * sigma + 0.5)
    if radius:
        padded = F.pad(difference, (radius,) * 4, mode="replicate")
        difference = _separable(padded, _gaussian(sigma, radius, a))
    return difference.square().mean(dim=(1, 2, 3))


def perceptual_distance(features_a: Sequence[Tensor], features_b: Sequence[Tensor]) -> Tensor:
    """Mean over layers of the squared distance of the channel-normalised maps of a network, averaged over positions.

    features_a, features_b: one (n, c, h, w) or (n, c) per layer, of the same network, which should be none that made the images.
    Each position's channels are divided by their L2 norm + 1e-10. Returns (n,) in [0, 4]; in [0, 2] after a ReLU.
    Source: Zhang et al. 2018 (arXiv 1801.03924), without the learned weights.
    """
    if len(features_a) != len(features_b):
        raise BadInput(f"features_a has {len(features_a)} layers and features_b has {len(features_b)}: give the same layers of both images")
    if not len(features_a):
        raise BadInput("features_a has no layers: give at least one map")
    distances = []
    for layer, (one, other) in enumerate(zip(features_a, features_b, strict=True)):
        _check_pair(one, other, f"features_a[{layer}]", f"features_b[{layer}]", is_image=False)
        one, other = (maps / (maps.norm(dim=1, keepdim=True) + 1e-10) for maps in (one, other))
        squared = (one - other).square().sum(dim=1)
        distances.append(squared.flatten(1).mean(dim=1) if squared.dim() > 1 else squared)
    return torch.stack(distances).mean(dim=0)


def high_frequency_fraction(delta: Tensor, cutoff: float = 0.25) -> Tensor:
    """Share of the power of `delta` at radial frequencies above `cutoff`, each channel's mean removed.

    delta: (n, c, h, w), a change of an image. cutoff: cycles per pixel, in [0, sqrt(1/2)), the corner of the spectrum.
    Returns values in [0, 1]; nan where delta is constant: it has no spectrum, and must not pass for a smooth change.
    """
    if not 0 <= cutoff < math.sqrt(0.5):
        raise BadInput(f"cutoff={cutoff} is outside [0, 0.707): give cycles per pixel, e.g. 0.25")
    power, frequency = _power_spectrum(delta)
    return (power * (frequency > cutoff)).sum(dim=(1, 2)) / power.sum(dim=(1, 2))


@full_precision()
def radial_spectrum(delta: Tensor) -> tuple[Tensor, Tensor]:
    """Power by radial frequency: averaged in rings one cycle per image wide, from one cycle per (shorter) side to half a cycle per pixel.

    delta: (n, c, h, w), sides of at least 8 px; each channel's mean is removed, channels are summed. Returns the rings' mean
    frequencies in cycles per pixel (rings,) and their power (n, rings), zero for a constant.
    """
    _check(delta, "delta", least_px=8)
    power, frequency = _power_spectrum(delta)
    side = min(delta.shape[-2:])
    ring = (frequency * side).round().long()
    n_rings = side // 2
    inside = (ring >= 1) & (ring <= n_rings)
    members = F.one_hot(ring[inside] - 1, n_rings).to(power)
    members = members / members.sum(dim=0)
    return frequency[inside] @ members, power[:, inside] @ members


@full_precision()
def spectrum_slope(delta: Tensor) -> Tensor:
    """Slope of log power over log frequency in the rings of `radial_spectrum`: -2 for natural images, 0 for white noise.

    delta: (n, c, h, w), sides of at least 8 px. Rings without power are left out of the fit. Returns nan where fewer than 3 rings hold
    power, for instance for a constant, or for a single grating.
    """
    frequency, ring_power = radial_spectrum(delta)
    log_frequency = frequency.log()
    total = _power_spectrum(delta)[0].sum(dim=(1, 2))
    floor = (16 * torch.finfo(ring_power.dtype).eps) ** 2 * total  # the Fourier transform's own rounding
    held = ring_power > floor[:, None]
    weight = held.to(ring_power)
    log_power = torch.where(held, ring_power, 1).log()
    count = weight.sum(dim=1)
    x = log_frequency - (weight @ log_frequency / count)[:, None]
    slope = (weight * x * log_power).sum(dim=1) / (weight * x * x).sum(dim=1)
    return torch.where(count >= 3, slope, torch.nan)


def _power_spectrum(delta: Tensor) -> tuple[Tensor, Tensor]:
    """(n, h, w) power summed over channels, exactly zero for a constant; and (h, w) radial frequency in cycles per pixel."""
    _check(delta, "delta")
    height, width = delta.shape[-2:]
    power = torch.fft.fft2(_centred(delta)).abs().square().sum(dim=1)
    vertical = torch.fft.fftfreq(height, dtype=delta.dtype, device=delta.device)
    horizontal = torch.fft.fftfreq(width, dtype=delta.dtype, device=delta.device)
    return power, torch.hypot(vertical[:, None], horizontal[None, :])


def _centred(maps: Tensor) -> Tensor:
    """Each channel minus its mean; a constant channel becomes exactly zero, which rounding in the mean alone does not grant."""
    flat = maps.flatten(2)
    constant = flat.amax(dim=2) == flat.amin(dim=2)
    return torch.where(constant[..., None, None], 0, maps - flat.mean(dim=2)[..., None, None])


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """(n,) correlation of (n, c, h, w) maps, centred per channel; 0 where a side is constant, NaN where one holds NaN."""
    a, b = _centred(a).flatten(1), _centred(b).flatten(1)
    norms = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(norms == 0, 0, (a * b).sum(dim=1) / norms.clamp_min(torch.finfo(a.dtype).tiny)).clamp(-1, 1)


def _gradient_magnitude(images: Tensor) -> Tensor:
    """(n, c, h, w) to (n, 1, h - 2, w - 2): the length of Sobel's gradient over all channels."""
    smooth = torch.tensor([0.25, 0.5, 0.25], dtype=images.dtype, device=images.device)
    slope = torch.tensor([-0.5, 0.0, 0.5], dtype=images.dtype, device=images.device)
    squared = _separable(images, smooth, slope).square() + _separable(images, slope, smooth).square()
    return squared.sum(dim=1, keepdim=True).sqrt()


def _gaussian(sigma: float, radius: int, like: Tensor) -> Tensor:
    offsets = torch.arange(-radius, radius + 1, dtype=like.dtype, device=like.device)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return weights / weights.sum()


def _separable(images: Tensor, vertical: Tensor, horizontal: Tensor | None = None) -> Tensor:
    """Every channel convolved with the outer product of two kernels, at the positions where they lie inside the image."""
    horizontal = vertical if horizontal is None else horizontal
    n, c, h, w = images.shape
    flat = F.conv2d(images.reshape(n * c, 1, h, w), vertical[None, None, :, None])
    flat = F.conv2d(flat, horizontal[None, None, None, :])
    return flat.reshape(n, c, *flat.shape[-2:])


def _check(x: Tensor, name: str, is_image: bool = True, least_px: int = 1) -> None:
    """Raise BadInput unless x is float32 or float64, not empty, and images with sides of at least least_px where they should be."""
    if x.dtype not in (torch.float32, torch.float64):
        cure = "divide by 255" if x.dtype == torch.uint8 else f"call {name}.float()"
        raise BadInput(f"{name} is {x.dtype}: float32 or float64 is needed; {cure}")
    if not x.numel():
        raise BadInput(f"{name} of shape {tuple(x.shape)} is empty: give at least one image")
    if is_image and x.dim() != 4:
        raise BadInput(f"{name} has shape {tuple(x.shape)}: (n, c, h, w) is needed; for one image use {name}[None]")
    if is_image and min(x.shape[-2:]) < least_px:
        raise BadInput(f"images of {x.shape[-2]} x {x.shape[-1]} px are too small: sides of at least {least_px} px are needed")


def _check_pair(a: Tensor, b: Tensor, name_a: str = "a", name_b: str = "b", is_image: bool = True, least_px: int = 1) -> None:
    """Two tensors of the same shape, each as `_check` asks."""
    _check(a, name_a, is_image, least_px)
    _check(b, name_b, is_image, least_px)
    if a.dim() < 2:
        raise BadInput(f"{name_a} has shape {tuple(a.shape)}: (n, ...) with at least two dimensions is needed")
    if a.shape != b.shape:
        raise BadInput(f"{name_a} has shape {tuple(a.shape)} and {name_b} {tuple(b.shape)}: they must be equal; compare images one to one")
