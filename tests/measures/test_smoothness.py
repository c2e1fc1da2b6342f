"""Total variation, filter statistics and noise blocking against closed forms, and on the edges where they are undefined."""

import math

import problems
import pytest
import torch

from reprolib.errors import BadInput
from reprolib.measures import smoothness
from reprolib.measures.smoothness import blocking, filters, relative_blocking, relative_change, relative_tv, total_variation, tv_per_pixel


def maps_of(row, column, height=5, width=9):
    """A (1, 1, height, width) map of a function of the row and one of the column, added."""
    return (row(torch.arange(height).double())[:, None] + column(torch.arange(width).double())[None, :])[None, None]


def nothing(at):
    return 0 * at


HEIGHT, WIDTH = 5, 9
CHECKERBOARD = ((torch.arange(HEIGHT)[:, None] + torch.arange(WIDTH)) % 2).double()[None, None]


@pytest.mark.parametrize(
    ("maps", "known"),
    [
        (maps_of(nothing, nothing) + 7, 0),
        (maps_of(nothing, lambda at: 3.0 * (at >= 4)), 3 * HEIGHT),  # a vertical step
        (maps_of(lambda at: -3.0 * (at >= 2), nothing), 3 * WIDTH),
        (maps_of(nothing, lambda at: 2 * at), 2 * HEIGHT * (WIDTH - 1)),
        (maps_of(lambda at: 2 * at, nothing), 2 * WIDTH * (HEIGHT - 1)),
        (maps_of(lambda at: at, lambda at: 2 * at), WIDTH * (HEIGHT - 1) + 2 * HEIGHT * (WIDTH - 1)),
        (CHECKERBOARD, HEIGHT * (WIDTH - 1) + WIDTH * (HEIGHT - 1)),
    ],
)
def test_total_variation_of_asymmetric_maps_is_known(maps, known):
    assert float(total_variation(maps)) == pytest.approx(known)
    assert float(tv_per_pixel(maps)) == pytest.approx(known / (HEIGHT * WIDTH))
    assert float(total_variation(maps.mT)) == pytest.approx(known)


def test_total_variation_is_of_each_map_apart_and_never_across_channels():
    maps = problems.images(3, 4, HEIGHT, WIDTH)
    alone = torch.stack([total_variation(maps[i : i + 1, k : k + 1]) for i in range(3) for k in range(4)]).view(3, 4)
    torch.testing.assert_close(total_variation(maps), alone)
    levels = torch.arange(4.0).view(1, 4, 1, 1).expand(3, 4, HEIGHT, WIDTH)
    assert not total_variation(levels).any()


def test_relative_total_variation_does_not_grow_with_a_map_and_a_silent_one_has_none():
    maps = problems.images(2, 3, 8, 8)
    torch.testing.assert_close(relative_tv(1000 * maps), relative_tv(maps))
    torch.testing.assert_close(relative_tv(maps), total_variation(maps) / (maps.abs().mean(dim=(2, 3)) * 64))
    assert not relative_tv(torch.zeros(2, 3, 8, 8)).any()


@pytest.mark.parametrize("maps", [torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.int64)])
def test_what_is_no_batch_of_maps_is_refused(maps):
    with pytest.raises(BadInput, match="total variation is of floating point maps"):
        total_variation(maps)


# --- filters


def test_the_power_of_two_opposed_pixels_is_a_squared_sine_and_a_bump_has_less_of_it_high_than_a_wavelet():
    pair = torch.zeros(1, 1, 7, 7)
    pair[0, 0, 3, 3], pair[0, 0, 3, 4] = 1, -1
    frequency = torch.fft.fftfreq(32, dtype=torch.float64)
    power = torch.sin(math.pi * frequency).square().expand(32, 32)
    high = torch.hypot(frequency[:, None], frequency) > 0.25
    assert float(filters(pair).high_frequency) == pytest.approx(float(power[high].sum() / power.sum()))
    bump = torch.exp(-(torch.arange(7.0) - 3).square() / 4)
    bump = (bump[:, None] * bump).expand(1, 3, 7, 7)
    fast = bump * torch.cos(math.pi * torch.arange(7))
    assert float(filters(bump).high_frequency) < 0.2
    assert float(filters(fast).high_frequency) > 0.9


def test_white_noise_has_the_share_of_frequencies_above_the_cutoff():
    weight = torch.randn(400, 3, 32, 32, generator=problems.generator())
    frequency = torch.fft.fftfreq(32)
    share = float((torch.hypot(frequency[:, None], frequency) > 0.25).float().mean())
    assert float(filters(weight).high_frequency.mean()) == pytest.approx(share, abs=0.003)


def test_filter_statistics_do_not_hang_on_the_norm_the_mean_or_the_sign():
    weight = torch.randn(6, 3, 7, 7, generator=problems.generator())
    scaled = weight * torch.tensor([1e-4, 0.1, 1, -2, 30, 1e4]).view(-1, 1, 1, 1) + torch.arange(6).view(-1, 1, 1, 1) / 1000
    torch.testing.assert_close(filters(scaled).tv, filters(weight).tv, rtol=1e-3, atol=0)
    torch.testing.assert_close(filters(scaled).high_frequency, filters(weight).high_frequency, rtol=1e-3, atol=0)


def test_the_mean_taken_away_is_that_over_all_channels():
    weight = torch.zeros(1, 3, 7, 7)
    weight[:, 0], weight[:, 1] = 1, -1  # opponent colours, flat in each: no mean over all, and all there is
    found = filters(weight)
    assert found.n_flat == 0
    assert float(found.tv) == 0


def test_total_variation_of_filters_is_along_rows_and_columns_of_the_unit_filter():
    step = torch.zeros(1, 1, 4, 8)
    step[..., 4:] = 5.0  # less its mean and of norm 1: a step of 2 / sqrt(32), four rows high
    assert float(filters(step).tv) == pytest.approx(4 * 2 / 32**0.5)


def test_flat_filters_are_left_out_and_counted_and_leave_no_nan():
    weight = torch.randn(5, 3, 7, 7, generator=problems.generator())
    weight[1], weight[3] = 0, 0.1
    found = filters(weight)
    assert (found.index.tolist(), found.n_flat) == ([0, 2, 4], 2)
    torch.testing.assert_close(found.tv, filters(weight[[0, 2, 4]]).tv)
    assert found.high_frequency.isfinite().all()


@pytest.mark.parametrize(
    ("weight", "sentence"),
    [
        (torch.ones(10, 48), r"weights of shape \(10, 48\) are of no convolution: filter statistics are of filters \(o, c, k, k\)"),
        (torch.ones(8, 3, 3, 3), "filters of 3 x 3 are too small: filter statistics are not asked of 3x3 filters, but from 4x4 on"),
        (torch.ones(8, 3, 1, 1), "not asked of 3x3 filters"),
        (torch.ones(8, 3, 64, 64), "filters of 64 x 64 are too large: allowed are up to 32x32"),
        (torch.zeros(8, 3, 7, 7), "all 8 filters are flat or zero: there is nothing to measure"),
    ],
)
def test_a_first_layer_without_such_filters_is_refused_in_one_sentence(weight, sentence):
    with pytest.raises(BadInput, match=sentence):
        filters(weight)


# --- noise


def test_blocking_is_0_for_equal_maps_1_for_noise_on_a_silent_channel_and_the_same_in_both_directions():
    clean, noisy = torch.tensor([4.0, 0.0, 1.0, 3.0, 0.0]), torch.tensor([4.0, 2.0, 3.0, 1.0, 0.0])
    assert blocking(clean, noisy).tolist() == [0, 1, 0.5, 0.5, 0]
    torch.testing.assert_close(blocking(100 * clean, 100 * noisy), blocking(clean, noisy))


def test_relative_blocking_divides_by_the_clean_variation_and_by_no_zero():
    clean, noisy = torch.tensor([4.0, 2.0, 0.0]), torch.tensor([6.0, 1.0, 1.0])
    assert relative_blocking(clean, noisy).tolist() == pytest.approx([0.5, 0.5, 1 / (1e-6 * 2)])
    assert relative_blocking(torch.zeros(2), torch.tensor([0.0, 3.0])).tolist() == [0, 1]


def test_a_channel_is_dead_below_a_mean_of_1e_8():
    assert smoothness.is_dead(torch.tensor([0.0, 0.9e-8, 1.1e-8, 1.0])).tolist() == [True, True, False, False]


def test_relative_change_is_of_each_image_over_all_its_maps():
    still = problems.images(4, 3, 5, 5)
    moved = still * torch.tensor([1.0, 1.5, 0.0, 3.0]).view(-1, 1, 1, 1)
    torch.testing.assert_close(relative_change(moved, still), torch.tensor([0, 0.5, 1, 2]))
    torch.testing.assert_close(relative_change(moved.contiguous(memory_format=torch.channels_last), still), relative_change(moved, still))


def test_an_image_that_a_layer_is_silent_on_has_moved_wholly_or_not_at_all():
    moved = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
    assert relative_change(moved, torch.zeros(2, 3, 2, 2)).tolist() == [0, 1]
    with pytest.raises(BadInput, match="a change is between equal ones"):
        relative_change(moved, torch.zeros(2, 3, 4, 4))
