"""Pure operations on images in [0, 1]: patches moved, bands removed, noise added, masks drawn, and five graded corruptions.

Every function takes float images x (n, c, h, w) in [0, 1] on any device, leaves them as they are, and returns new ones of
the same shape, dtype and device, in [0, 1]. All raise BadInput for other images. Nothing
depends on which images share a batch.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from reprolib.boundary import checked_images
from reprolib.data import shapes
from reprolib.errors import BadInput, nearest

# Patch p of the scrambled image is patch DERANGEMENTS[n][p] of the whole one, counted along rows; one per n, for all images.
# n = 2 is the order of the shape-bias literature; in that of n = 4 no two neighbours stay side by side.
DERANGEMENTS = {
    2: (2, 3, 1, 0),
    4: (15, 8, 12, 2, 1, 6, 3, 0, 9, 4, 14, 7, 5, 11, 13, 10),
}

REFERENCE_PX = 32  # the side at which the lengths of CORRUPTIONS hold; they grow with the images
KERNEL_SIGMAS = 4  # a Gaussian kernel is cut here

# Families and their three strengths, mildest first. noise: standard deviation, in units of [0, 1]. blur: sigma in px of a
# 32 px image. contrast: factor left. jpeg: quality of 100. pixelate: side of a block, in px of a 32 px image.
CORRUPTIONS: dict[str, tuple[float, float, float]] = {
    "noise": (0.04, 0.08, 0.12),
    "blur": (0.5, 0.8, 1.2),
    "contrast": (0.5, 0.3, 0.15),
    "jpeg": (75, 40, 15),
    "pixelate": (4 / 3, 2, 4),
}
BANDS: dict[str, tuple[float, float]] = {"low": (-1, 1 / 8), "middle": (1 / 8, 1 / 4), "high": (1 / 4, 1)}
"""Radial frequencies of band noise in cycles a px: above the first, up to the second; what is constant over an image is low."""
LOW_FREQUENCY = ("contrast",)  # the families whose error lies mostly below .25 cycles a px; all others are high-frequency


def scramble(x: Tensor, derangement: tuple[int, ...]) -> Tensor:
    """Images cut into n x n patches, patch p replaced by patch derangement[p]; n is the root of its length.

    x: (n, c, h, w) of any dtype (masks too). Raises BadInput when the order is no derangement of n x n patches (each
    number 0 to n^2 - 1 once, none in its own place), or a side of x is not divisible by n.
    """
    side = math.isqrt(len(derangement))
    wrong = side < 2 or side**2 != len(derangement) or sorted(derangement) != list(range(side**2))
    if wrong or any(place == patch for place, patch in enumerate(derangement)):
        raise BadInput(f"derangement={derangement} is none: allowed is each of 0 to n^2 - 1 once, never in its own place, n at least 2")
    if x.ndim != 4 or x.shape[2] % side or x.shape[3] % side:
        raise BadInput(f"x of shape {tuple(x.shape)} cannot be cut into {side} x {side} patches: allowed are sides divisible by {side}")
    n, c, h, w = x.shape
    patches = x.reshape(n, c, side, h // side, side, w // side).permute(0, 1, 2, 4, 3, 5).reshape(n, c, side**2, h // side, w // side)
    moved = patches[:, :, list(derangement)].reshape(n, c, side, side, h // side, w // side)
    return moved.permute(0, 1, 2, 4, 3, 5).reshape(n, c, h, w)


def lowpass(x: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur of sigma_px pixels; reflected border, kernel cut at four sigma.

    Raises BadInput when sigma_px is not above 0 or the kernel would reach beyond the image.
    """
    x = checked_images(x)
    if not sigma_px > 0:
        raise BadInput(f"sigma_px={sigma_px} is not allowed: give a blur above 0 px")
    reach = math.ceil(KERNEL_SIGMAS * sigma_px)
    if reach >= min(x.shape[2:]):
        raise BadInput(f"sigma_px={sigma_px} is too wide for images of {x.shape[2]} x {x.shape[3]} px: the kernel reaches {reach} px")
    at = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (at / sigma_px) ** 2)
    weights /= weights.sum()
    padded = F.pad(x, (reach,) * 4, mode="reflect")
    # Shifted copies are summed instead of a convolution, whose rounding depends on the size of the batch.
    nothing = x.new_zeros(())
    rows = sum((weight * padded[:, :, i : i + x.shape[2]] for i, weight in enumerate(weights.tolist())), nothing)
    return sum((weight * rows[:, :, :, i : i + x.shape[3]] for i, weight in enumerate(weights.tolist())), nothing).clamp_(0, 1)


def highpass(x: Tensor, sigma_px: float) -> Tensor:
    """What a Gaussian blur of sigma_px pixels takes away, added to mid-grey (.5) and clipped; errors as of `lowpass`."""
    return (x - lowpass(x, sigma_px) + 0.5).clamp_(0, 1)


def gaussian_noise(x: Tensor, sigma: float, ids: Iterable[int]) -> Tensor:
    """The images plus independent normal noise of standard deviation sigma (units of [0, 1]) on every value, clipped.

    ids: (n,) numbers that fix each image's noise (`unit_noise`). Raises BadInput when sigma is negative or not finite, or ids are not one an image.
    """
    x = checked_images(x)
    if not 0 <= sigma < math.inf:
        what = "negative" if sigma < 0 else "not finite"
        raise BadInput(f"sigma={sigma} is {what}: allowed is 0 or more, in units of [0, 1]")
    return (x + sigma * _drawn(ids, x).to(x)).clamp_(0, 1)


def band_noise(x: Tensor, band: str, norm: float, ids: Iterable[int]) -> Tensor:
    """The images plus normal noise of one of BANDS, of L2 norm exactly `norm` over each image's values before clipping to [0, 1].

    ids: (n,) numbers that fix each image's noise: the noise of `gaussian_noise` under the same ids, filtered. Raises BadInput for an unknown
    band, a negative norm, ids that are not one an image, and images too small to hold the band.
    """
    x = checked_images(x)
    if band not in BANDS:
        raise BadInput(f"band={band!r} is unknown, allowed are {', '.join(BANDS)}{nearest(band, BANDS)}")
    if not 0 <= norm < math.inf:
        raise BadInput(f"norm={norm} is not allowed: give 0 or more, the L2 norm of the noise of an image in [0, 1]")
    above, up_to = BANDS[band]
    height, width = x.shape[2:]
    radius = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None, :])
    is_in = (radius > above) & (radius <= up_to)
    if not is_in.any():
        raise BadInput(f"images of {height} x {width} px hold no frequency of band {band!r}: give larger ones")
    drawn = _drawn(ids, x)
    filtered = torch.fft.irfft2(torch.fft.rfft2(drawn) * is_in, s=(height, width))
    length = torch.stack([one.norm() for one in filtered]).view(-1, 1, 1, 1)  # one by one: a sum's rounding may depend on the batch
    return (x + (norm * filtered / length).to(x)).clamp_(0, 1)


def unit_noise(ids: Iterable[int], shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Standard normal noise (n, *shape) float32, on the CPU: each image's depends on (seed, its id) alone."""
    keys = [np.random.SeedSequence((seed, int(i)), spawn_key=(1,)) for i in ids]  # no stream of the images themselves
    drawn = [np.random.Generator(np.random.Philox(key)).standard_normal(shape, dtype=np.float32) for key in keys]
    return torch.from_numpy(np.stack(drawn))


def silhouette(mask: Tensor) -> Tensor:
    """Masks (n, h, w) bool as black figures on white, (n, 3, h, w) float32. Raises BadInput for other masks."""
    return 1 - _figures(mask)


def contour(mask: Tensor) -> Tensor:
    """Inner outlines, 1 px wide, of masks (n, h, w) bool, white on black, (n, 3, h, w) float32. Raises BadInput for other masks."""
    return _figures(mask, outlines=True)


def corrupt(x: Tensor, family: str, strength: int, ids: Iterable[int]) -> Tensor:
    """Images with one of CORRUPTIONS at strength 1 (mild), 2 or 3; ids (n,) fix the noise of each image.

    Lengths (blur, pixelate) are in px of a 32 px image and scale with the width of x. Every network is shown the same images.
    Raises BadInput for an unknown family or strength, and where jpeg is given neither 1 nor 3 channels.
    """
    if family not in CORRUPTIONS:
        raise BadInput(f"family={family!r} is unknown, allowed are {', '.join(CORRUPTIONS)}{nearest(family, CORRUPTIONS)}")
    if strength not in (1, 2, 3):
        raise BadInput(f"strength={strength} is not allowed: give 1 (mild), 2 or 3 (strong)")
    x = checked_images(x)
    value, length = CORRUPTIONS[family][strength - 1], x.shape[3] / REFERENCE_PX
    if family == "noise":
        return gaussian_noise(x, value, ids)
    if family == "blur":
        return lowpass(x, value * length)
    if family == "contrast":
        return _contrast(x, value)
    return _jpeg(x, int(value)) if family == "jpeg" else _pixelate(x, value * length)


def _drawn(ids: Iterable[int], x: Tensor) -> Tensor:
    """Unit noise of the images x by their ids, on the CPU."""
    drawn = unit_noise(ids, tuple(x.shape[1:]))
    if len(drawn) != len(x):
        raise BadInput(f"{len(drawn)} ids are given for {len(x)} images: allowed is one each")
    return drawn


def _contrast(x: Tensor, factor: float) -> Tensor:
    """m + factor * (x - m), m the mean of each image over its pixels and channels."""
    mean = torch.stack([image.mean() for image in x]).view(-1, 1, 1, 1)  # one by one: a sum's rounding may depend on the batch
    return (mean + factor * (x - mean)).clamp_(0, 1)


def _jpeg(x: Tensor, quality: int) -> Tensor:
    """Images rounded to 8 bits, encoded as JPEG of `quality` (1 to 95, chroma 4:2:0) and decoded, on the CPU."""
    if x.shape[1] not in (1, 3):
        raise BadInput(f"images of {x.shape[1]} channels are not allowed: a JPEG has 1 or 3 channels")
    eight_bits = (255 * x).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    decoded = np.stack([_through_jpeg(image, quality) for image in eight_bits])
    return (torch.from_numpy(decoded).permute(0, 3, 1, 2).to(x.device).to(x.dtype) / 255).contiguous()


def _pixelate(x: Tensor, block_px: float) -> Tensor:
    """Each image averaged over blocks of block_px pixels (at least 1, not always whole), then shown at its size again.

    Blocks count from the top left; the number of them along a side is side / block_px, rounded. A pixel takes the value of
    the block that holds its centre.
    """
    for axis in (2, 3):
        side = x.shape[axis]
        blocks = round(side / block_px)
        edge = torch.arange(blocks + 1, dtype=torch.float64) * side / blocks
        pixel = torch.arange(side, dtype=torch.float64)
        overlap = (torch.minimum(edge[1:, None], pixel + 1) - torch.maximum(edge[:-1, None], pixel)).clamp(min=0)
        shown = overlap[((pixel + 0.5) * blocks / side).long()] * blocks / side  # (side, side): a pixel's share in a pixel shown
        lines = x.movedim(axis, 0)
        summed = [sum((share * lines[i] for i, share in enumerate(row) if share > 0), x.new_zeros(())) for row in shown.tolist()]
        x = torch.stack(summed).movedim(0, axis)
    return x.contiguous().clamp_(0, 1)


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """(h, w, c) uint8 encoded and decoded."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(file)).reshape(image.shape)


def _figures(mask: Tensor, outlines: bool = False) -> Tensor:
    """The masks, or their outlines, white on black, (n, 3, h, w)."""
    if mask.dtype != torch.bool or mask.ndim != 3:
        raise BadInput(f"mask is {mask.dtype} of shape {tuple(mask.shape)}: allowed are bool masks (n, h, w)")
    shown = torch.from_numpy(shapes.boundary(mask.cpu().numpy())).to(mask.device) if outlines else mask
    return shown.float()[:, None].expand(-1, 3, -1, -1).contiguous()
