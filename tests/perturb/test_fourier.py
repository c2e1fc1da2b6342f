"""Images as spectra, there and back (trap 10 of inversion: `torch.irfft` is gone), and inversion by steps in frequency space."""

import math

import problems
import pytest
import torch

from reprolib.errors import BadInput
from reprolib.measures.perceptual import relative_distance
from reprolib.perturb.engine import Stepper
from reprolib.perturb.fourier import EDGE, REFERENCE, invert_fourier, matched_stepper, to_image, to_spectrum
from reprolib.perturb.inversion import network_code, noise_start

SIZES = [(8, 8), (7, 7), (8, 7), (7, 8), (32, 32), (1, 5)]


def images(n: int = 3, size: tuple[int, int] = (8, 8), seed: int = 3) -> torch.Tensor:
    return problems.images(n, 3, *size, seed=seed, low=0.1, high=0.9)


@pytest.mark.parametrize("size", SIZES)
def test_an_image_comes_back_from_its_spectrum_on_even_and_odd_sides(size):
    x = images(size=size)
    z = to_spectrum(x)
    assert z.shape == (3, 3, size[0], size[1] // 2 + 1)
    torch.testing.assert_close(to_image(z, size), x, rtol=0, atol=1e-5)
    torch.testing.assert_close(to_image(torch.view_as_real(z), size), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_one_coefficient_is_a_wave_across_the_image(size):
    height, width = size
    z = torch.zeros(1, 1, height, width // 2 + 1, dtype=torch.complex64)
    assert (to_image(z, size) == 0.5).all()
    z[..., 0, 0] = 2.0
    torch.testing.assert_close(to_image(z, size), torch.sigmoid(torch.full((1, 1, *size), 2 / math.sqrt(height * width))))
    z[..., 0, 0], z[..., 0, 1] = 0.0, 3.0
    wave = 2 * torch.cos(2 * math.pi * torch.arange(width) / width) * 3 / math.sqrt(height * width)  # twice: for its mirror image too
    torch.testing.assert_close(to_image(z, size), torch.sigmoid(wave).expand(1, 1, *size), rtol=0, atol=1e-6)


def test_pixels_at_the_ends_of_the_range_have_a_finite_spectrum():
    x = problems.images(2, 3, 8, 8).round()
    z = to_spectrum(x)
    assert torch.isfinite(torch.view_as_real(z)).all()
    torch.testing.assert_close(to_image(z, (8, 8)), x.clamp(EDGE, 1 - EDGE), rtol=0, atol=1e-5)


def test_a_spectrum_of_another_size_is_refused():
    with pytest.raises(BadInput) as refusal:
        to_image(to_spectrum(images()), (8, 10))
    assert str(refusal.value) == "z holds 8 x 5 coefficients: images of 8 x 10 have 8 x 6"


@pytest.mark.parametrize("side", [8, 7])
def test_a_code_that_is_the_image_is_inverted_to_the_image(side):
    x = images(size=(side, side))
    found = invert_fourier(problems.identity_code, x.flatten(1), noise_start(x.shape, 4), 200, matched_stepper(0.2))
    torch.testing.assert_close(found, x, rtol=0, atol=5e-3)


def test_the_inverse_of_a_network_comes_near_its_code():
    network = problems.network()
    x, start, code = images(), noise_start((3, 3, 8, 8), 4), network_code(network, 2)
    with torch.no_grad():
        wanted = code(x)
        near = relative_distance(code(invert_fourier(code, wanted, start, 100, matched_stepper(0.1))), wanted)
        assert (near < 0.2 * relative_distance(code(start), wanted)).all()


def test_no_matched_step_moves_an_image_further_than_it_says_and_a_wave_on_grey_moves_that_far():
    x, start = images(20), images(20, seed=9)
    moved = invert_fourier(problems.identity_code, x.flatten(1), start, 1, matched_stepper(0.05))
    length = (moved - start).flatten(1).norm(dim=1)
    assert (length <= 0.05 * (1 + 1e-4)).all()
    assert (length > 0.01).all()
    grey = torch.full((1, 3, 8, 8), 0.5)
    wave = grey + 0.01 * torch.cos(2 * math.pi * torch.arange(8) / 8)
    assert (invert_fourier(problems.identity_code, wave.flatten(1), grey, 1, matched_stepper(0.01)) - grey).norm().item() == pytest.approx(
        0.01, rel=1e-2
    )


@pytest.mark.parametrize("by", [Stepper(3.0, "raw"), Stepper(0.3)])
def test_a_step_is_a_step_of_the_coefficients(by):
    """The loop under it moves places in [0, 1]; here the gradient is taken by hand."""
    x, start = images(1), images(1, seed=9)
    z = torch.view_as_real(to_spectrum(start)).requires_grad_()
    relative_distance(to_image(z, (8, 8)).flatten(1), x.flatten(1)).sum().backward()
    direction = z.grad if by.kind == "raw" else z.grad / z.grad.norm()
    wanted = to_image((z - by.size * direction).detach(), (8, 8))
    assert (wanted - start).abs().max() > 1e-3
    torch.testing.assert_close(invert_fourier(problems.identity_code, x.flatten(1), start, 1, by), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("by", [Stepper(10.0, "raw"), matched_stepper(0.1)])
def test_a_batch_is_inverted_as_its_images_one_by_one(by):
    """Trap 1: with raw steps a loss averaged over the batch would make every step shorter: .15 away after the five.

    Five steps that all come nearer: longer ones overshoot, and then multiply the rounding, which differs by processor.
    """
    code, x, start = network_code(problems.network(), 2), images(4), noise_start((4, 3, 8, 8), 4)
    with torch.no_grad():
        wanted = code(x)
    together = invert_fourier(code, wanted, start, 5, by)
    alone = torch.cat([invert_fourier(code, wanted[i : i + 1], start[i : i + 1], 5, by) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)


def test_a_step_costs_one_forward_and_one_backward():
    tally, x = problems.Tally(), images()
    invert_fourier(lambda x: tally(x).flatten(1), x.flatten(1), noise_start(x.shape, 4), 9, matched_stepper(0.1))
    assert (tally.forwards, tally.backwards) == (9, 9)


def test_it_runs_in_fp32_whatever_the_autocast_state():
    code, x, start = network_code(problems.network(), 2), images(), noise_start((3, 3, 8, 8), 4)
    with torch.no_grad():
        wanted = code(x)
    plain = invert_fourier(code, wanted, start, 5, matched_stepper(0.1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(invert_fourier(code, wanted, start, 5, matched_stepper(0.1)), plain)
    assert plain.dtype == torch.float32


def test_the_references_steps_stay_finite():
    x = images()
    found = invert_fourier(problems.identity_code, x.flatten(1), noise_start(x.shape, 4), 20, REFERENCE)
    assert torch.isfinite(found).all()
    assert (REFERENCE.size, REFERENCE.kind, REFERENCE.schedule, REFERENCE.momentum) == (5000, "raw", "constant", 0)
