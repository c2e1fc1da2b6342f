"""Textures are fields of zero mean and unit RMS, with the frequencies their names promise."""

import numpy as np
import pytest

from reprolib.data import shapetexture, textures

EVERY_TEXTURE = sorted(textures.TEXTURES)


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("name", EVERY_TEXTURE)
def test_every_texture_has_zero_mean_and_unit_rms(name, size):
    field = textures.texture(name, np.random.default_rng(0).random((20, textures.N_UNIFORMS)), size, 5.0)
    np.testing.assert_allclose(field.mean(axis=(1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose((field**2).mean(axis=(1, 2)), 1, rtol=1e-12)


@pytest.mark.parametrize("degrees", [0, 45, 90, 135])
def test_a_grating_is_the_plane_wave_of_its_angle_and_period(degrees):
    u = np.full((1, textures.N_UNIFORMS), 0.5)  # jitter 0
    u[0, 0] = 0.2
    angle = np.deg2rad(degrees)
    right, down = np.meshgrid(np.arange(32), np.arange(32))
    wave = np.cos(2 * np.pi * (right * np.cos(angle) - down * np.sin(angle)) / 5 + 2 * np.pi * 0.2)
    np.testing.assert_allclose(textures.texture(f"grating_{degrees}", u, 32, 5.0)[0], (wave - wave.mean()) / wave.std(), atol=1e-10)


def radial_frequency(field: np.ndarray) -> float:
    """Power-weighted mean frequency of fields (n, s, s), in cycles a px."""
    power = np.abs(np.fft.fft2(field)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(field.shape[-1]), np.fft.fftfreq(field.shape[-1])))
    return float((power * frequency).sum() / power.sum())


def test_gratings_share_one_frequency_and_noises_lie_on_either_side():
    u = np.random.default_rng(0).random((50, textures.N_UNIFORMS))
    frequency = {name: radial_frequency(textures.texture(name, u, 32, 5.0)) for name in shapetexture.TEXTURES}
    gratings = [frequency[f"grating_{d}"] for d in (0, 45, 90, 135)]
    assert gratings == pytest.approx([1 / 5] * 4, rel=0.05)
    assert frequency["blobs"] < 0.7 / 5
    assert frequency["noise"] > 1.4 / 5


def test_background_field_falls_as_one_over_frequency():
    power = np.abs(np.fft.fft2(textures.power_law_field(np.random.default_rng(0).random((800, 3 * textures.N_WAVES)), 64))) ** 2
    frequency = 64 * np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64)))
    octave = [power[:, (frequency >= low) & (frequency < 2 * low)].mean() for low in (2, 4, 8)]
    slopes = np.log2(octave[1:]) - np.log2(octave[:-1])  # power falls by 4 an octave where amplitude is 1/f
    np.testing.assert_allclose(slopes, -2, atol=0.5)
