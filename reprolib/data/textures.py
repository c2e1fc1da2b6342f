"""Texture fields of zero mean and unit RMS over the frame, in image axes: the texture cue, before any mask.

A texture is a function of n items at once. Its random numbers come in as uniforms in [0, 1), so that an item's texture
depends on nothing but its own numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

N_WAVES = 24  # plane waves that make up a noise field
JITTER_DEG = 10.0
N_SCALARS = 6  # uniforms beside the waves: two phases, orientation jitter, polarity, centre x and y
N_UNIFORMS = N_SCALARS + 3 * N_WAVES

# (scalars (n, 6), waves (n, 3 * N_WAVES), frame side in px, period in px) -> (n, size, size), any mean and RMS
Texture = Callable[[Array, Array, int, float], Array]


def texture(name: str, uniforms: Array, size: int, period_px: float) -> Array:
    """Texture `name` of n items, (n, size, size): every field has zero mean and unit RMS over the frame.

    uniforms: (n, N_UNIFORMS) in [0, 1). period_px: the period that the family is built on.
    """
    field = TEXTURES[name](uniforms[:, :N_SCALARS], uniforms[:, N_SCALARS:], size, period_px)
    return standardised(field)


def power_law_field(uniforms: Array, size: int) -> Array:
    """A field (n, size, size) with amplitude spectrum 1/f, zero mean and unit RMS; uniforms: (n, 3 * N_WAVES).

    Equal waves spread evenly over octaves, from half a cycle a frame up to .7 of what the pixels can carry.
    """
    return standardised(_waves(uniforms, size, 0.5 / size, 0.35))


def standardised(field: Array) -> Array:
    """Each field of (n, h, w) minus its mean, over its RMS."""
    centred = field - field.mean(axis=(1, 2), keepdims=True)
    return centred / np.sqrt(np.mean(centred**2, axis=(1, 2), keepdims=True))


def _waves(uniforms: Array, size: int, lowest: float, highest: float) -> Array:
    """Sum of N_WAVES plane waves of random direction and phase, log-uniform between two frequencies in cycles a px."""
    u = uniforms.reshape(len(uniforms), 3, N_WAVES)
    frequency = lowest * (highest / lowest) ** u[:, 0]
    angle, phase = np.pi * u[:, 1], 2 * np.pi * u[:, 2]
    pixel = np.arange(size)[None, :, None]
    along_x = 2 * np.pi * (frequency * np.cos(angle))[:, None, :] * pixel + phase[:, None, :]
    along_y = 2 * np.pi * (frequency * np.sin(angle))[:, None, :] * pixel
    # cos(a + b) = cos a cos b - sin a sin b: two products of (size, waves) by (waves, size) an item, not size^2 cosines.
    rows = np.concatenate([np.cos(along_y), -np.sin(along_y)], axis=2)
    columns = np.concatenate([np.cos(along_x), np.sin(along_x)], axis=2)
    return rows @ columns.transpose(0, 2, 1)


def _axes(scalars: Array, size: int, base_deg: float = 0.0) -> tuple[Array, Array]:
    """Pixel coordinates (n, size, size) along and across a direction jittered about `base_deg` (0: along x, 90: up)."""
    angle = np.deg2rad(base_deg + JITTER_DEG * (2 * scalars[:, 2] - 1))[:, None, None]
    x, y = np.arange(float(size))[None, None, :], -np.arange(float(size))[None, :, None]
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _phases(scalars: Array) -> tuple[Array, Array]:
    return 2 * np.pi * scalars[:, 0, None, None], 2 * np.pi * scalars[:, 1, None, None]


def _grating(wave_vector_deg: float) -> Texture:
    """A sine grating; at 0 degrees it varies along x, so its stripes stand upright."""

    def draw(scalars: Array, waves: Array, size: int, period_px: float) -> Array:
        along, _ = _axes(scalars, size, wave_vector_deg)
        return np.cos(2 * np.pi * along / period_px + _phases(scalars)[0])

    return draw


def _checker(scalars: Array, waves: Array, size: int, period_px: float) -> Array:
    """Soft-edged squares; their strongest frequency, at 45 degrees to the squares, is the gratings'."""
    (along, across), (first, second) = _axes(scalars, size), _phases(scalars)
    step = 2 * np.pi / (period_px * np.sqrt(2))
    return np.tanh(3 * np.cos(step * along + first) * np.cos(step * across + second))


def _dots(scalars: Array, waves: Array, size: int, period_px: float) -> Array:
    """A square lattice of round dots, brighter or darker than the rest with equal odds, so that clipping favours neither."""
    (along, across), (first, second) = _axes(scalars, size), _phases(scalars)
    step = 2 * np.pi / period_px
    polarity = np.where(scalars[:, 3, None, None] < 0.5, -1.0, 1.0)
    return polarity * np.exp(2 * (np.cos(step * along + first) + np.cos(step * across + second) - 2))


def _blobs(scalars: Array, waves: Array, size: int, period_px: float) -> Array:
    """Noise of a low band, around 1.8 periods."""
    return _waves(waves, size, 0.8 / (1.8 * period_px), 1.25 / (1.8 * period_px))


def _noise(scalars: Array, waves: Array, size: int, period_px: float) -> Array:
    """Noise of a high band, around .55 periods."""
    return _waves(waves, size, 0.85 / (0.55 * period_px), 1.2 / (0.55 * period_px))


def _zigzag(scalars: Array, waves: Array, size: int, period_px: float) -> Array:
    """Stripes folded to and fro, one period high and two periods long."""
    (along, across), (first, second) = _axes(scalars, size, 90.0), _phases(scalars)
    triangle_wave = np.arcsin(np.sin(np.pi * across / period_px + second)) / np.pi
    return np.cos(2 * np.pi * (along / period_px + triangle_wave) + first)


def _rings(scalars: Array, waves: Array, size: int, period_px: float) -> Array:
    """Circles around a random point of the frame's middle."""
    centre = size * (0.25 + 0.5 * scalars[:, 4:6])
    pixel = np.arange(size)
    radius = np.hypot(pixel[None, None, :] - centre[:, 0, None, None], pixel[None, :, None] - centre[:, 1, None, None])
    return np.cos(2 * np.pi * radius / period_px + _phases(scalars)[0])


TEXTURES: dict[str, Texture] = {
    "grating_0": _grating(0.0),
    "grating_45": _grating(45.0),
    "grating_90": _grating(90.0),
    "grating_135": _grating(135.0),
    "checker": _checker,
    "dots": _dots,
    "blobs": _blobs,
    "noise": _noise,
    "zigzag": _zigzag,
    "rings": _rings,
}
