import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.filters import sobel_h, sobel_v
from skimage.metrics import structural_similarity

from reprolib.errors import BadInput
from reprolib.measures import perceptual as p

PAIRWISE = [p.pixel_correlation, p.edge_correlation, p.ssim, p.lowpass_mse]
SPECTRAL = [p.high_frequency_fraction, p.spectrum_slope]


def images(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def power_law_field(exponent, side=64, channels=3, seed=0):
    """A real field whose power falls as frequency ** -exponent exactly, with the phases of white noise."""
    phases = torch.fft.fft2(images(1, channels, side, side, seed=seed) - 0.5)
    frequency = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.fftfreq(side)[None, :]).double()
    frequency[0, 0] = 1
    return torch.fft.ifft2(phases / phases.abs() * frequency ** (-exponent / 2)).real


def grating(cycles, side=32):
    return torch.cos(2 * math.pi * cycles * torch.arange(side, dtype=torch.float64) / side).expand(1, 1, side, side)


@pytest.mark.parametrize("shape", [(32, 32), (224, 224), (11, 40), (33, 17)])
def test_ssim_equals_scikit_image(shape):
    a, noise = images(2, 3, *shape, seed=1), images(2, 3, *shape, seed=2)
    b = (0.7 * a + 0.3 * noise).clamp(0, 1)
    oracle = [
        structural_similarity(
            x.numpy(), y.numpy(), gaussian_weights=True, use_sample_covariance=False, sigma=1.5, data_range=1.0, channel_axis=0
        )
        for x, y in zip(a, b, strict=True)
    ]
    assert p.ssim(a, b).tolist() == pytest.approx(oracle, abs=1e-9)
    assert p.ssim(a.float(), b.float()).tolist() == pytest.approx(oracle, abs=1e-4)


def test_ssim_of_a_small_image_uses_the_largest_window_that_fits():
    a, b = images(1, 1, 7, 7, seed=1), images(1, 1, 7, 7, seed=2)
    x, y = a.numpy().ravel(), b.numpy().ravel()
    taps = np.exp(-0.5 * (np.arange(-3, 4) / 1.5) ** 2)
    weights = np.outer(taps, taps).ravel() / taps.sum() ** 2
    (xx, xy), (_, yy) = np.cov(x, y, aweights=weights, ddof=0)
    mx, my = weights @ x, weights @ y
    by_hand = (2 * mx * my + 1e-4) * (2 * xy + 9e-4) / ((mx**2 + my**2 + 1e-4) * (xx + yy + 9e-4))
    assert p.ssim(a, b).item() == pytest.approx(by_hand, abs=1e-9)
    assert p.ssim(images(1, 1, 1, 1), images(1, 1, 1, 1)).item() == pytest.approx(1)


def test_ssim_of_two_constant_images_is_the_luminance_term():
    a, b = torch.full((1, 3, 16, 16), 0.2, dtype=torch.float64), torch.full((1, 3, 16, 16), 0.8, dtype=torch.float64)
    assert p.ssim(a, b).item() == pytest.approx((2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4), abs=1e-9)


@pytest.mark.parametrize("measure", [p.pixel_correlation, p.edge_correlation, p.ssim])
def test_an_image_agrees_with_itself_fully_and_the_order_does_not_matter(measure):
    a, b = images(3, 3, 32, 32, seed=1), images(3, 3, 32, 32, seed=2)
    assert torch.allclose(measure(a, a), torch.ones(3, dtype=torch.float64))
    assert torch.allclose(measure(a, b), measure(b, a))
    assert (measure(a, b) < 0.5).all()


@pytest.mark.parametrize("measure", PAIRWISE)
def test_a_batch_gives_what_its_images_give_alone_at_other_sides_too(measure):
    a, b = images(4, 3, 20, 13, seed=1), images(4, 3, 20, 13, seed=2)
    alone = torch.cat([measure(a[i : i + 1], b[i : i + 1]) for i in range(4)])
    assert measure(a, b).shape == (4,)
    assert torch.allclose(measure(a, b), alone, atol=1e-12)


def test_pixel_correlation_equals_numpy_on_one_channel():
    a, b = images(1, 1, 9, 7, seed=1), images(1, 1, 9, 7, seed=2)
    assert p.pixel_correlation(a, b).item() == pytest.approx(np.corrcoef(a.flatten(), b.flatten())[0, 1])


def test_pixel_correlation_ignores_tint_and_contrast_and_sees_inversion():
    a = images(2, 3, 16, 16)
    tint = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)[None, :, None, None]
    assert torch.allclose(p.pixel_correlation(a, 0.4 * a + tint), torch.ones(2, dtype=torch.float64))
    assert torch.allclose(p.pixel_correlation(a, 1 - a), -torch.ones(2, dtype=torch.float64))


def test_pixel_correlation_is_not_raised_by_a_tint_two_images_share():
    tint = torch.tensor([0.8, -0.8, 0.0], dtype=torch.float64)[None, :, None, None]
    a, b = images(1, 3, 32, 32, seed=1), images(1, 3, 32, 32, seed=2)
    assert np.corrcoef((a + tint).flatten(), (b + tint).flatten())[0, 1] > 0.7
    assert abs(p.pixel_correlation(a + tint, b + tint).item()) < 0.1


def test_edge_correlation_equals_the_correlation_of_scikit_images_sobel_maps():
    a, b = images(1, 1, 24, 18, seed=1), images(1, 1, 24, 18, seed=2)
    maps = [np.hypot(sobel_h(x[0, 0].numpy()), sobel_v(x[0, 0].numpy()))[1:-1, 1:-1].ravel() for x in (a, b)]
    assert p.edge_correlation(a, b).item() == pytest.approx(np.corrcoef(*maps)[0, 1])


def test_edge_correlation_sees_the_place_of_an_edge_and_neither_its_sign_nor_its_colour():
    square = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    square[:, 0, 8:20, 8:20] = 1
    moved = square.roll((9, 9), dims=(2, 3))
    recoloured = square[:, [1, 0, 2]]
    assert p.edge_correlation(square, 1 - square).item() == pytest.approx(1)
    assert p.edge_correlation(square, recoloured).item() == pytest.approx(1)
    assert p.edge_correlation(square, moved).item() < 0.2


@pytest.mark.parametrize("measure", [p.pixel_correlation, p.edge_correlation])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_image_correlates_zero_with_anything_itself_included(measure, dtype):
    flat = torch.full((1, 3, 32, 32), 0.3, dtype=dtype)
    assert measure(flat, images(1, 3, 32, 32, dtype=dtype)).item() == 0
    assert measure(flat, flat).item() == 0


@pytest.mark.parametrize(("side", "sigma"), [(32, 1.5), (48, 2.25), (16, 0.75)])
def test_lowpass_mse_equals_scipys_gaussian_filter_scaled_with_the_side(side, sigma):
    a, b = images(1, 3, side, side, seed=1), images(1, 3, side, side, seed=2)
    blurred = [ndimage.gaussian_filter(x[0].numpy(), sigma, mode="nearest", truncate=4, axes=(1, 2)) for x in (a, b)]
    assert p.lowpass_mse(a, b).item() == pytest.approx(np.mean((blurred[0] - blurred[1]) ** 2), rel=1e-9)


def test_lowpass_mse_keeps_a_shift_of_brightness_and_forgets_a_checkerboard():
    a = images(1, 3, 32, 32)
    checkerboard = 0.3 * (1 - 2 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2)).double()
    assert p.lowpass_mse(a, a).item() == 0
    assert p.lowpass_mse(a, a + 0.1).item() == pytest.approx(0.01)
    assert p.lowpass_mse(a, a + checkerboard).item() < 1e-3 * 0.09
    assert p.lowpass_mse(a, a + checkerboard, sigma_px=0).item() == pytest.approx(0.09)


def test_perceptual_distance_of_orthogonal_equal_and_opposite_directions_is_two_zero_and_four():
    one = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    other = one.clone()
    one[:, 0], other[:, 1] = 3.0, 0.5
    assert p.perceptual_distance([one], [one]).item() == 0
    assert p.perceptual_distance([one], [7 * one]).item() == pytest.approx(0)
    assert p.perceptual_distance([one], [other]).item() == pytest.approx(2)
    assert p.perceptual_distance([one], [-one]).item() == pytest.approx(4)


def test_perceptual_distance_weighs_layers_alike_whatever_their_size_and_takes_dead_positions():
    same, small = images(1, 5, 8, 8), torch.zeros(1, 2, dtype=torch.float64)
    other = small.clone()
    small[:, 0], other[:, 1] = 1.0, 1.0
    assert p.perceptual_distance([same, small], [same, other]).item() == pytest.approx(1)
    dead = torch.zeros(2, 3, 4, 4)
    assert p.perceptual_distance([dead], [dead]).tolist() == [0, 0]


@pytest.mark.parametrize(("cycles", "share"), [(4, 0.0), (8, 0.0), (9, 1.0), (12, 1.0), (16, 1.0)])
def test_a_gratings_power_lies_on_its_own_side_of_the_cutoff(cycles, share):
    assert p.high_frequency_fraction(0.3 + 0.1 * grating(cycles)).item() == pytest.approx(share, abs=1e-12)


def test_high_frequency_fraction_adds_power_not_amplitude_and_ignores_scale_and_mean():
    mixture = 3 * grating(3) + grating(13)
    assert p.high_frequency_fraction(mixture).item() == pytest.approx(1 / 10)
    assert p.high_frequency_fraction(-40 * mixture + 7).item() == pytest.approx(1 / 10)


def test_high_frequency_fraction_of_white_noise_is_the_area_outside_the_cutoff():
    noise = images(8, 3, 64, 64)
    assert p.high_frequency_fraction(noise).mean().item() == pytest.approx(1 - math.pi / 16, abs=0.01)
    assert p.high_frequency_fraction(noise, cutoff=0.0).tolist() == pytest.approx([1.0] * 8)


@pytest.mark.parametrize("cycles", [1, 5, 16])
def test_radial_spectrum_holds_a_gratings_power_in_its_own_ring(cycles):
    frequency, power = p.radial_spectrum(0.3 + 0.1 * grating(cycles))
    assert frequency.shape == (grating(cycles).shape[-1] // 2,)
    assert frequency[0].item() == pytest.approx(1 / grating(cycles).shape[-1], rel=0.3)
    assert power.argmax(dim=1).tolist() == [cycles - 1]
    assert (power.sum() - power.max()).item() == pytest.approx(0, abs=1e-12)
    assert p.radial_spectrum(-2 * grating(cycles))[1].max().item() == pytest.approx(400 * power.max().item())


def test_radial_spectrum_of_white_noise_is_flat_and_of_a_constant_nothing():
    _, power = p.radial_spectrum(images(64, 3, 32, 32))
    mean = power.mean(dim=0)
    assert (mean / mean.mean() - 1).abs().max() < 0.1
    assert (p.radial_spectrum(torch.full((1, 3, 32, 32), 0.3))[1] == 0).all()


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0])
def test_spectrum_slope_finds_the_exponent_a_field_was_made_with(exponent):
    field = power_law_field(exponent)
    assert p.spectrum_slope(field).item() == pytest.approx(-exponent, abs=0.08)
    assert p.spectrum_slope(5 * field.float() + 2).item() == pytest.approx(-exponent, abs=0.08)


def test_spectrum_slope_takes_images_that_are_not_square():
    noise = images(4, 3, 32, 48)
    assert p.spectrum_slope(noise).abs().max().item() < 0.25
    assert torch.allclose(p.spectrum_slope(noise), p.spectrum_slope(noise.transpose(2, 3)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_has_no_spectrum_gives_nan_and_not_a_smooth_ones_value(dtype):
    constant = torch.full((2, 3, 32, 32), 0.3, dtype=dtype)
    assert p.high_frequency_fraction(constant).isnan().all()
    assert p.spectrum_slope(constant).isnan().all()
    assert p.spectrum_slope(grating(5).to(dtype)).isnan().all()  # one ring is no line


def test_relative_distance_is_in_units_of_the_target():
    r, target = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert p.relative_distance(r, r).tolist() == [0, 0]
    assert p.relative_distance(r, target).tolist() == pytest.approx([5e12, 1.0])
    assert p.relative_distance(2 * target[1:], target[1:]).item() == pytest.approx(1)


def test_relative_distance_flattens_maps():
    r, target = images(2, 4, 3, 3, seed=1), images(2, 4, 3, 3, seed=2)
    assert torch.allclose(p.relative_distance(r, target), p.relative_distance(r.flatten(1), target.flatten(1)))


def test_random_pair_median_never_pairs_an_image_with_itself():
    codes = torch.eye(2, dtype=torch.float64)  # the only pair is sqrt(2) apart
    assert p.random_pair_median(codes) == pytest.approx(math.sqrt(2))


def test_random_pair_median_repeats_with_its_generator_and_lies_amid_the_distances():
    codes = images(50, 6)
    every = torch.stack([p.relative_distance(codes[i : i + 1], codes[j : j + 1])[0] for i in range(50) for j in range(50) if i != j])
    drawn = [p.random_pair_median(codes, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert drawn[0] == pytest.approx(every.median().item(), rel=0.05)


@pytest.mark.parametrize("measure", PAIRWISE)
def test_pairs_that_do_not_match_are_refused_with_both_shapes(measure):
    with pytest.raises(BadInput, match=r"\(2, 3, 32, 32\).*\(2, 3, 16, 16\).*must be equal"):
        measure(images(2, 3, 32, 32), images(2, 3, 16, 16))
    with pytest.raises(BadInput, match=r"is empty: give at least one image"):
        measure(images(0, 3, 32, 32), images(0, 3, 32, 32))
    with pytest.raises(BadInput, match=r"a is torch.uint8.*divide by 255"):
        measure(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), images(1, 3, 32, 32))
    with pytest.raises(BadInput, match=r"\(n, c, h, w\) is needed; for one image use a\[None\]"):
        measure(images(3, 32, 32), images(3, 32, 32))


@pytest.mark.parametrize("measure", SPECTRAL)
def test_a_change_of_another_shape_is_refused(measure):
    with pytest.raises(BadInput, match=r"use delta\[None\]"):
        measure(images(3, 32, 32))
    with pytest.raises(BadInput, match="is empty"):
        measure(images(0, 3, 32, 32))


def test_bad_settings_are_refused_with_what_is_allowed():
    image = images(1, 3, 32, 32)
    with pytest.raises(BadInput, match=r"sigma_px=-1 is not allowed.*at least 0"):
        p.lowpass_mse(image, image, sigma_px=-1)
    with pytest.raises(BadInput, match=r"cutoff=0.8 is outside \[0, 0.707\)"):
        p.high_frequency_fraction(image, cutoff=0.8)
    with pytest.raises(BadInput, match="sides of at least 3 px"):
        p.edge_correlation(image[..., :2], image[..., :2])
    with pytest.raises(BadInput, match="sides of at least 8 px"):
        p.spectrum_slope(image[..., :4])
    with pytest.raises(BadInput, match="features_a has 2 layers and features_b has 1"):
        p.perceptual_distance([image, image], [image])
    with pytest.raises(BadInput, match="no layers"):
        p.perceptual_distance([], [])
    with pytest.raises(BadInput, match="a pair needs at least 2"):
        p.random_pair_median(images(1, 4))
    with pytest.raises(BadInput, match="n_pairs=0"):
        p.random_pair_median(images(3, 4), n_pairs=0)
    with pytest.raises(BadInput, match=r"r has shape \(3,\): \(n, ...\)"):
        p.relative_distance(images(3), images(3))


def test_inputs_are_left_as_they_were():
    a, b = images(2, 3, 16, 16, seed=1), images(2, 3, 16, 16, seed=2)
    copies = a.clone(), b.clone()
    for measure in PAIRWISE:
        measure(a, b)
    for measure in SPECTRAL:
        measure(a)
    assert torch.equal(a, copies[0])
    assert torch.equal(b, copies[1])
