"""Distortions move, filter and corrupt as their closed forms say, leave their input alone, and do not depend on the batch."""

import math

import numpy as np
import problems
import pytest
import torch

from reprolib.data import distort, shapetexture
from reprolib.errors import BadInput

X = problems.images(5, 3, 32, 32, dtype=torch.float64)

EVERY = {
    "scramble": lambda x, ids: distort.scramble(x, distort.DERANGEMENTS[4]),
    "lowpass": lambda x, ids: distort.lowpass(x, 1.5),
    "highpass": lambda x, ids: distort.highpass(x, 1.5),
    "gaussian_noise": lambda x, ids: distort.gaussian_noise(x, 0.1, ids=ids),
    **{f"{band}_noise": lambda x, ids, band=band: distort.band_noise(x, band, 2.0, ids) for band in distort.BANDS},
    **{f"{f}_{s}": lambda x, ids, f=f, s=s: distort.corrupt(x, f, s, ids) for f in distort.CORRUPTIONS for s in (1, 2, 3)},
}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_image_stays_in_range_keeps_its_kind_and_does_not_depend_on_its_batch(name, dtype):
    x = X.to(dtype)
    before = x.clone()
    whole = EVERY[name](x, range(5))
    assert torch.equal(x, before)
    assert (whole.shape, whole.dtype) == (x.shape, dtype)
    assert 0 <= float(whole.min()) <= float(whole.max()) <= 1
    assert not torch.equal(whole, x)
    for rows in ([3], [4, 0, 1]):
        assert torch.equal(EVERY[name](x[rows], rows), whole[rows])


@pytest.mark.parametrize("name", [*(name for name in EVERY if "noise" not in name)])
def test_a_grey_image_stays_grey_where_nothing_is_added(name):
    grey = torch.full((2, 3, 32, 32), 128 / 255, dtype=torch.float64)
    expected = torch.full_like(grey, 0.5) if name == "highpass" else grey
    torch.testing.assert_close(EVERY[name](grey, range(2)), expected, rtol=0, atol=1e-12)


# --- patches


@pytest.mark.parametrize("n", list(distort.DERANGEMENTS))
def test_no_patch_keeps_its_place_and_every_patch_is_somewhere(n):
    numbered = torch.arange(n * n).reshape(1, 1, n, n).repeat_interleave(3, 2).repeat_interleave(3, 3)
    moved = distort.scramble(numbered, distort.DERANGEMENTS[n])
    assert not (moved == numbered).any()
    assert sorted(moved[0, 0, ::3, ::3].flatten().tolist()) == list(range(n * n))
    assert moved[0, 0, ::3, ::3].flatten().tolist() == list(distort.DERANGEMENTS[n])


def test_no_two_neighbours_stay_side_by_side_in_sixteen_patches():
    order = np.array(distort.DERANGEMENTS[4]).reshape(4, 4)
    row, column = order // 4, order % 4
    beside = (np.diff(row, axis=1) == 0) & (np.diff(column, axis=1) == 1)
    below = (np.diff(column, axis=0) == 0) & (np.diff(row, axis=0) == 1)
    assert not beside.any()
    assert not below.any()


def test_scrambling_by_the_inverse_order_brings_the_image_back():
    for order in distort.DERANGEMENTS.values():
        inverse = tuple(int(place) for place in np.argsort(order))
        assert torch.equal(distort.scramble(distort.scramble(X, order), inverse), X)


@pytest.mark.parametrize("order", [(0, 2, 3, 1), (1, 0), (1, 2, 0, 0), (0,), (2, 3, 1, 4)])
def test_an_order_that_is_no_derangement_is_refused(order):
    with pytest.raises(BadInput, match="is none: allowed is each of 0 to n"):
        distort.scramble(X, order)


def test_sides_that_cannot_be_cut_are_refused():
    with pytest.raises(BadInput, match="cannot be cut into 4 x 4 patches: allowed are sides divisible by 4"):
        distort.scramble(X[..., :30], distort.DERANGEMENTS[4])


# --- filters


@pytest.mark.parametrize(("frequency", "sigma_px"), [(1 / 8, 1.0), (1 / 8, 1.5), (1 / 4, 1.0), (1 / 16, 2.0)])
def test_a_blur_scales_a_wave_by_the_gaussian_of_its_frequency(frequency, sigma_px):
    wave = 0.5 + 0.4 * torch.cos(2 * math.pi * frequency * torch.arange(64, dtype=torch.float64)).expand(1, 1, 64, 64)
    kept = math.exp(-2 * (math.pi * sigma_px * frequency) ** 2)
    middle = (..., slice(16, 48), slice(16, 48))  # the reflected border is not periodic
    torch.testing.assert_close(distort.lowpass(wave, sigma_px)[middle], (0.5 + kept * (wave - 0.5))[middle], rtol=0, atol=2e-4)
    torch.testing.assert_close(distort.highpass(wave, sigma_px)[middle], (0.5 + (1 - kept) * (wave - 0.5))[middle], rtol=0, atol=2e-4)


def test_low_and_high_pass_add_up_to_the_image_where_nothing_is_clipped():
    x = 0.4 + 0.2 * X
    torch.testing.assert_close(distort.lowpass(x, 1.5) + distort.highpass(x, 1.5) - 0.5, x, rtol=0, atol=1e-12)


def test_a_blur_goes_down_as_it_goes_across():
    torch.testing.assert_close(distort.lowpass(X.mT, 1.2), distort.lowpass(X, 1.2).mT, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("sigma", "message"), [(0.0, "sigma_px=0.0 is not allowed"), (9.0, "too wide for images of 32 x 32 px")])
def test_a_blur_that_cannot_be_is_refused(sigma, message):
    with pytest.raises(BadInput, match=message):
        distort.lowpass(X, sigma)


# --- noise


def test_noise_has_the_deviation_it_says():
    grey = torch.full((40, 3, 32, 32), 0.5)
    noisy = distort.gaussian_noise(grey, 0.05, ids=range(40))
    assert float(noisy.std()) == pytest.approx(0.05, rel=0.01)
    assert float(noisy.mean()) == pytest.approx(0.5, abs=1e-3)


def test_noise_belongs_to_an_image_and_to_a_seed():
    first, second = distort.unit_noise([4, 7], (3, 8, 8)), distort.unit_noise([7, 4], (3, 8, 8))
    assert torch.equal(first, second.flip(0))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(distort.unit_noise([4], (3, 8, 8), seed=1)[0], first[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": -0.1, "ids": range(5)}, "sigma=-0.1 is negative"),
        ({"sigma": 0.1, "ids": range(4)}, "4 ids are given for 5 images"),
    ],
)
def test_noise_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(BadInput, match=message):
        distort.gaussian_noise(X, **arguments)


@pytest.mark.parametrize("side", [(24, 24), (15, 22)])
@pytest.mark.parametrize("band", distort.BANDS)
def test_band_noise_has_its_norm_and_no_power_outside_its_band(band, side):
    grey = torch.full((3, 3, *side), 0.5, dtype=torch.float64)
    noise = distort.band_noise(grey, band, 1.5, range(3)) - grey  # too little to be clipped
    assert noise.flatten(1).norm(dim=1).tolist() == pytest.approx([1.5] * 3, rel=1e-5)
    radius = torch.hypot(*torch.meshgrid(*(torch.fft.fftfreq(n, dtype=torch.float64) for n in side), indexing="ij"))
    inside = {"low": radius <= 1 / 8, "middle": (radius > 1 / 8) & (radius <= 1 / 4), "high": radius > 1 / 4}[band]
    power = torch.fft.fft2(noise).abs().square()
    assert float(power[..., ~inside].sum() / power.sum()) < 1e-10
    assert (power[..., inside] > 0).all()  # the mean of an image, too, moves under low noise


def test_bands_of_one_image_are_parts_of_one_noise():
    grey = torch.full((2, 3, 16, 16), 0.5, dtype=torch.float64)
    white = distort.unit_noise([3, 5], (3, 16, 16)).double()
    for band in distort.BANDS:
        noise = (distort.band_noise(grey, band, 1.0, [3, 5]) - grey).flatten(1)
        both = (noise * white.flatten(1)).sum(dim=1) / noise.norm(dim=1) / white.flatten(1).norm(dim=1)
        assert (both > 0.2).all()  # the root of its share of the power; 0 +- .04 of another draw


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"band": "hihg"}, "band='hihg' is unknown, allowed are low, middle, high.*'high'"),
        ({"norm": -1.0}, "norm=-1.0 is not allowed: give 0 or more"),
        ({"norm": math.nan}, "norm=nan is not allowed"),
        ({"ids": range(4)}, "4 ids are given for 5 images"),
        ({"x": X[..., :2, :2], "band": "middle"}, "images of 2 x 2 px hold no frequency of band 'middle'"),
    ],
)
def test_band_noise_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(BadInput, match=message):
        distort.band_noise(**{"x": X, "band": "high", "norm": 1.0, "ids": range(5)} | arguments)


# --- masks


def test_a_silhouette_is_black_where_the_mask_is_and_a_contour_white_on_its_outline():
    mask = torch.zeros(1, 6, 6, dtype=torch.bool)
    mask[0, 1:5, 1:5] = True
    hole = mask.clone()
    hole[0, 2:4, 2:4] = False
    assert torch.equal(distort.silhouette(mask), 1 - mask.float()[:, None].expand(1, 3, 6, 6))
    assert torch.equal(distort.contour(mask), hole.float()[:, None].expand(1, 3, 6, 6))
    with pytest.raises(BadInput, match="mask is torch.float32 of shape .*allowed are bool masks"):
        distort.silhouette(mask.float())


# --- corruptions


@pytest.mark.parametrize("family", list(distort.CORRUPTIONS))
def test_each_strength_hurts_more_than_the_one_before(family):
    x = shapetexture.render(shapetexture.World(), range(40)).image.double() / 255
    error = [float((distort.corrupt(x, family, strength, range(40)) - x).norm()) for strength in (1, 2, 3)]
    assert 0 < error[0] < error[1] < error[2]


def test_every_family_errs_on_the_side_of_the_spectrum_it_is_counted_on():
    """Share of the error's energy above .25 cycles a px: over one half for high-frequency families, under for the others."""
    x = shapetexture.render(shapetexture.World(), range(40)).image.double() / 255
    frequency = torch.hypot(*torch.meshgrid(torch.fft.fftfreq(32), torch.fft.fftfreq(32), indexing="ij"))
    for family in ("noise", "contrast"):
        power = torch.fft.fft2(distort.corrupt(x, family, 2, range(40)) - x).abs() ** 2
        share = float(power[..., frequency > 0.25].sum() / power.sum())
        assert (share < 0.5) == (family in distort.LOW_FREQUENCY), (family, share)


def test_contrast_shrinks_differences_about_the_mean_of_the_image():
    found = distort._contrast(X, 0.3)
    mean = X.mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(found, mean + 0.3 * (X - mean))
    torch.testing.assert_close(distort._contrast(X, 1.0), X)


@pytest.mark.parametrize("block", [2, 4, 8])
def test_whole_blocks_show_their_mean(block):
    expected = X.reshape(5, 3, 32 // block, block, 32 // block, block).mean(dim=(3, 5))
    expected = expected.repeat_interleave(block, 2).repeat_interleave(block, 3)
    torch.testing.assert_close(distort._pixelate(X, block), expected)
    torch.testing.assert_close(distort._pixelate(expected, block), expected)


def test_broken_blocks_weigh_pixels_by_the_area_they_share():
    """Four pixels in three blocks of 4/3: the first block is a whole pixel and a third of the second."""
    x = torch.zeros(1, 1, 8, 8, dtype=torch.float64) + torch.tensor([0.0, 0.4, 0.8, 0.2, 0.0, 0.4, 0.8, 0.2], dtype=torch.float64)
    first, second, third = 0.75 * (0 + 0.4 / 3), 0.75 * (2 * 0.4 / 3 + 2 * 0.8 / 3), 0.75 * (0.8 / 3 + 0.2)
    expected = torch.tensor([first, second, second, third] * 2, dtype=torch.float64).expand(8, 8)
    torch.testing.assert_close(distort._pixelate(x, 4 / 3)[0, 0], expected)


def test_jpeg_of_high_quality_is_near_and_of_low_quality_far():
    x = distort.lowpass(X, 1.0)
    for images, bound in ((x, 0.03), (x[:, :1], 0.01)):  # colour is kept at half the resolution
        errors = [float((distort._jpeg(images, quality) - images).abs().mean()) for quality in (95, 40, 5)]
        assert errors[0] < bound
        assert errors[0] < errors[1] < errors[2]


def test_lengths_grow_with_the_image():
    small, large = X[:, :, :16, :16], torch.rand(2, 3, 64, 64, generator=problems.generator(), dtype=torch.float64)
    assert torch.equal(distort.corrupt(small, "blur", 2, range(5)), distort.lowpass(small, 0.4))
    assert torch.equal(distort.corrupt(large, "pixelate", 3, range(2)), distort._pixelate(large, 8))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: distort.corrupt(X, "nois", 1, range(5)), "family='nois' is unknown, allowed are noise, .*; did you mean 'noise'?"),
        (lambda: distort.corrupt(X, "noise", 4, range(5)), "strength=4 is not allowed: give 1 .mild., 2 or 3"),
        (lambda: distort.corrupt(X[:, :2], "jpeg", 1, range(5)), "images of 2 channels are not allowed: a JPEG has 1 or 3 channels"),
        (lambda: distort.lowpass((255 * X).to(torch.uint8), 1.0), "images are torch.uint8 .*bytes divided by 255"),
        (lambda: distort.corrupt(X[0], "contrast", 1, range(5)), r"of shape \(3, 32, 32\): give floats"),
    ],
)
def test_what_cannot_be_done_is_refused(call, message):
    with pytest.raises(BadInput, match=message):
        call()
