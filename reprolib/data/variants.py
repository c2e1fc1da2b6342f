"""The variants of a ShapeTex world: which shape and texture item i has, and how they are shown.

| variant | shows | labelled by |
|---|---|---|
| both | shape k with texture k, hues of the class: what networks are trained on | k |
| both_uniform | shape k with texture k, uniform hues, as in every row below | k |
| conflict | shape a with texture b != a, all pairs equally often | pair |
| held_out | shapes and textures of no training set, crossed | pair |
| factorial | every shape with every texture | pair |
| shape_flat | the shape by its contrast delta alone, c = 0 | shape |
| shape_neutral | the shape, filled with an equal mix of all the world's textures, each of random phase | shape |
| silhouette, contour | black figure on white; its 1-px outline, white on black | shape |
| texture_frame | the texture over the whole frame: no figure, hence no delta | texture |
| texture_blob | the texture in a smooth irregular blob of the shapes' area, delta as in `both` | texture |
| scrambled_2, scrambled_4 | `both_uniform` in 2 x 2 or 4 x 4 patches, moved by one fixed derangement | k |
| lowpass, highpass, noisy | `both_uniform` blurred; what the blur takes away, on mid-grey; under normal noise | k |

The k of item i is i mod K throughout, so that variants of one index show the same class in the same pose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reprolib.data import distort

Index = NDArray[np.int64]

# At this blur, in periods, a grating keeps exp(-2 pi^2 .3^2) = .17 of its amplitude.
FILTER_PERIODS = 0.3
NOISE_SIGMA = 0.1  # of `noisy`, in units of [0, 1]


@dataclass(frozen=True)
class Variant:
    """How a variant is made.

    pair: (indices (n,), number of classes) -> shape ids and texture ids (n,), -1 for none. label: what y says.
    figure, fill, drawn: what is composed. hues: those of the class, or uniform. patches: n of an n x n scramble, 1 for none.
    distorted: (images float64 (n, 3, h, w) in [0, 1], indices, world seed, period in px) -> distorted images.
    """

    pair: Callable[[Index, int], tuple[Index, Index]]
    label: Literal["shape", "texture", "pair"]
    figure: Literal["shape", "blob", "frame"] = "shape"
    fill: Literal["texture", "flat", "mix"] = "texture"
    drawn: Literal["composed", "silhouette", "contour"] = "composed"
    hues: Literal["class", "uniform"] = "uniform"
    patches: int = 1
    distorted: Callable[[Tensor, Index, int, float], Tensor] | None = None


def _same(i: Index, k: int) -> tuple[Index, Index]:
    return i % k, i % k


def _different(i: Index, k: int) -> tuple[Index, Index]:
    return i % k, (i + 1 + i // k % (k - 1)) % k


def _crossed(i: Index, k: int) -> tuple[Index, Index]:
    return i % k, (i + i // k) % k


def _shape_only(i: Index, k: int) -> tuple[Index, Index]:
    return i % k, np.full_like(i, -1)


def _texture_only(i: Index, k: int) -> tuple[Index, Index]:
    return np.full_like(i, -1), i % k


def _noisy(x: Tensor, index: Index, seed: int, period_px: float) -> Tensor:
    return (x + NOISE_SIGMA * distort.unit_noise(index.tolist(), tuple(x.shape[1:]), seed)).clamp(0, 1)


VARIANTS: dict[str, Variant] = {
    "both": Variant(_same, "shape", hues="class"),
    "both_uniform": Variant(_same, "shape"),
    "conflict": Variant(_different, "pair"),
    "held_out": Variant(_crossed, "pair"),
    "factorial": Variant(_crossed, "pair"),
    "shape_flat": Variant(_shape_only, "shape", fill="flat"),
    "shape_neutral": Variant(_shape_only, "shape", fill="mix"),
    "silhouette": Variant(_shape_only, "shape", fill="flat", drawn="silhouette"),
    "contour": Variant(_shape_only, "shape", fill="flat", drawn="contour"),
    "texture_frame": Variant(_texture_only, "texture", figure="frame"),
    "texture_blob": Variant(_texture_only, "texture", figure="blob"),
    "scrambled_2": Variant(_same, "shape", patches=2),
    "scrambled_4": Variant(_same, "shape", patches=4),
    "lowpass": Variant(_same, "shape", distorted=lambda x, index, seed, period_px: distort.lowpass(x, FILTER_PERIODS * period_px)),
    "highpass": Variant(_same, "shape", distorted=lambda x, index, seed, period_px: distort.highpass(x, FILTER_PERIODS * period_px)),
    "noisy": Variant(_same, "shape", distorted=_noisy),
}


def finish(variant: Variant, image: Tensor, masks: list[Tensor], index: Index, seed: int, period_px: float) -> tuple[Tensor, list[Tensor]]:
    """Images (n, 3, h, w) uint8 and masks (n, h, w) of composed items after what the variant does to a finished picture.

    Masks (bool or uint8) move with the patches of a scramble; silhouettes and contours are drawn from the first mask.
    """
    if variant.drawn != "composed":
        drawn = distort.silhouette(masks[0]) if variant.drawn == "silhouette" else distort.contour(masks[0])
        image = (255 * drawn).to(torch.uint8)
    if variant.distorted is not None:
        image = (255 * variant.distorted(image.double() / 255, index, seed, period_px)).round().to(torch.uint8)
    if variant.patches > 1:
        order = distort.DERANGEMENTS[variant.patches]
        image, masks = distort.scramble(image, order), [distort.scramble(mask[:, None], order)[:, 0] for mask in masks]
    return image, masks
