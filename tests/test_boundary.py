"""What enters a public function: refused in words where it is wrong; and the caller's torch state changes no result."""

import contextlib
import math
from functools import partial

import problems
import pytest
import torch
from torch import nn

from reprolib.boundary import Classifier, check_step, checked_images, checked_labels, own_state
from reprolib.errors import BadInput
from reprolib.measures import perceptual
from reprolib.models.grams import collect
from reprolib.models.layers import features, representation
from reprolib.models.networks import build
from reprolib.perturb.attacks import adversarial_accuracy, noise_accuracy, pgd, predictions
from reprolib.perturb.fourier import invert_fourier, matched_stepper
from reprolib.perturb.interpolation import interpolate
from reprolib.perturb.inversion import follow, invert, network_code
from reprolib.perturb.visualisation import add_feature, add_until, maximise

X, OTHER, Y = problems.images(4, 3, 8, 8), problems.images(4, 3, 8, 8, seed=5), torch.arange(4)
UNITS = torch.tensor([1, 5, 9, 20])

# Every public function that takes images, as (network, images) -> a tensor.
ON_IMAGES = {
    "pgd linf": lambda net, x: pgd(net, x, Y[: len(x)], steps=2, generator=problems.generator()),
    "pgd l2": lambda net, x: pgd(net, x, Y[: len(x)], "l2", 0.5, 0.2, 2, generator=problems.generator()),
    "adversarial_accuracy": lambda net, x: adversarial_accuracy(net, x, Y[: len(x)], "l2", 0.05, 2, 1).correct,
    "noise_accuracy": lambda net, x: torch.tensor(noise_accuracy(net, x, Y[: len(x)], "l2", 0.5), dtype=torch.float32),
    "predictions": predictions,
    "invert, target": lambda net, x: invert(net, x, OTHER[: len(x)], 2),
    "invert, start": lambda net, x: invert(net, OTHER[: len(x)], x, 2),
    "follow": lambda net, x: follow(network_code(net, 1), torch.ones(len(x), 64, dtype=torch.float32), x, 2, 0.1, [0.5], 1).x,
    "interpolate": lambda net, x: interpolate(network_code(net, 1), x, OTHER[: len(x)], OTHER[: len(x)], 1, 0.1, 2).x,
    "invert_fourier": lambda net, x: invert_fourier(network_code(net, 1), torch.ones(len(x), 64, dtype=torch.float32), x, 1, matched_stepper(0.1)),
    "maximise": lambda net, x: maximise(network_code(net, 1), UNITS[: len(x)], x, 2).x,
    "add_feature": lambda net, x: add_feature(network_code(net, 1), UNITS[: len(x)], x, 0.5, 2).x,
    "add_until": lambda net, x: add_until(network_code(net, 1), UNITS[: len(x)], x, torch.ones(len(x)), 2).x,
    "collect": lambda net, x: collect(net, x)["conv3"],
    "features": lambda net, x: features(net, x, ["conv3"])["conv3"].detach(),
    "representation": lambda net, x: representation(net, x).detach(),
}  # fmt: skip
every_function = pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, call in ON_IMAGES.items()])


@contextlib.contextmanager
def double_default():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


STATES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": partial(torch.autocast, "cpu", dtype=torch.bfloat16),
    "default dtype": double_default,
}


# --- images


@every_function
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (255 * X, r"lie in \[.*divide bytes by 255, do not normalise"),
        ((X - 0.5) / 0.25, r"lie in \[-.*do not normalise"),
        ((255 * X).byte(), "are torch.uint8 of shape"),
        (X > 0.5, "are torch.bool of shape"),
        (X.bfloat16(), "are torch.bfloat16: float32 or float64 is needed"),
        (X.half(), "are torch.float16: float32 or float64 is needed"),
        (X[:0], "are empty: give at least one image"),
        (X.clone().index_fill_(0, torch.tensor([2]), math.nan), r"\[2\] hold values that are not finite"),
        (X.clone().index_fill_(0, torch.tensor([1, 3]), math.inf), r"\[1, 3\] hold values that are not finite"),
    ],
    ids=["bytes as floats", "normalised", "bytes", "mask", "bfloat16", "half", "none", "nan", "inf"],
)
def test_wrong_images_are_refused_everywhere_before_anything_runs(call, wrong, words):
    with pytest.raises(BadInput, match=words):
        call(problems.network(), wrong)


def test_what_is_no_tensor_is_refused_by_its_type():
    with pytest.raises(BadInput, match="target are a ndarray: give a tensor"):
        checked_images(X.numpy(), "target")


# --- the caller's torch state


@every_function
@pytest.mark.parametrize("state", STATES)
def test_the_callers_state_changes_no_result_and_none_of_ours_leaks(call, state):
    network = problems.network()
    wanted = call(network, X)
    with STATES[state]():
        before = _state()
        found = call(network, X.clone())  # under inference mode a tensor that autograd would not take
        assert _state() == before
    assert found.dtype == wanted.dtype
    assert torch.equal(found, wanted)


@every_function
def test_train_mode_changes_no_result_and_is_handed_back(call):
    wanted, network = call(problems.network(), X), problems.mixed(problems.network())
    modes, buffers = problems.modes(network), problems.buffers(network)
    assert torch.equal(call(network, X), wanted)
    assert problems.modes(network) == modes
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in network.named_buffers())


@every_function
def test_results_carry_no_gradient_and_images_that_do_are_left_as_they_were(call):
    leaf = X.clone().requires_grad_()
    found = call(problems.network(), leaf)
    assert not found.requires_grad
    assert leaf.grad is None
    assert leaf.requires_grad
    assert torch.equal(leaf.detach(), X)


def test_a_state_is_handed_back_after_an_error_too():
    @own_state()
    def fails():
        assert _state() != (True, False, torch.float32, False), "inside"

    with torch.inference_mode(), double_default(), torch.autocast("cpu", dtype=torch.bfloat16):
        before = _state()
        with pytest.raises(AssertionError, match="inside"):
            fails()
        assert _state() == before


def test_a_network_built_under_any_state_is_the_same_and_can_be_attacked():
    wanted = build("tinycnn", 4, problems.MEAN, problems.STD, 0).state_dict()
    for state in STATES.values():
        with state():
            network = build("tinycnn", 4, problems.MEAN, problems.STD, 0)
        assert all(
            torch.equal(wanted[name], weight) and wanted[name].dtype == weight.dtype for name, weight in network.state_dict().items()
        )
        assert not any(weight.is_inference() for weight in network.state_dict().values())


@pytest.mark.parametrize("measure", [perceptual.ssim, perceptual.edge_correlation, perceptual.lowpass_mse, perceptual.pixel_correlation])
def test_measures_are_in_full_precision_whatever_the_autocast_state(measure):
    wanted = measure(X, OTHER)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(measure(X, OTHER), wanted)


@pytest.mark.parametrize("measure", [perceptual.ssim, perceptual.edge_correlation, perceptual.lowpass_mse, perceptual.pixel_correlation])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_in_an_image_is_none_in_its_measure_and_in_no_other(measure, bad):
    spoilt = X.clone()
    spoilt[1, 0, 3, 3] = bad
    for found in (measure(spoilt, OTHER), measure(OTHER, spoilt)):
        assert torch.isfinite(found).tolist() == [True, False, True, True]


def _state():
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype(), torch.is_autocast_enabled("cpu")


# --- labels, steps


ATTACKS = [
    pytest.param(lambda y, net=None: pgd(net or problems.network(), X, y, steps=1), id="pgd"),
    pytest.param(lambda y, net=None: adversarial_accuracy(net or problems.network(), X, y, "linf", 0.01, 1, 1), id="adversarial_accuracy"),
    pytest.param(lambda y, net=None: noise_accuracy(net or problems.network(), X, y, "linf", 0.01), id="noise_accuracy"),
]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(
    ("y", "words"),
    [
        (torch.tensor([0, 1, 2, -100]), "label -100 of image 3 is not one of the network's 4 classes: allowed are 0 to 3"),
        (torch.tensor([0, 4, 2, -1]), "label 4 of image 1 is not one of the network's 4 classes"),
        (torch.arange(6), r"labels are torch.int64 of shape \(6,\) for 4 images"),
        (torch.arange(3), r"labels are torch.int64 of shape \(3,\) for 4 images"),
        (Y[:, None], r"labels are torch.int64 of shape \(4, 1\) for 4 images: give whole class numbers \(4,\)"),
        (nn.functional.one_hot(Y, 4), r"of one-hot rows take .argmax\(1\)"),
        (Y.float(), "labels are torch.float32"),
        (Y > 1, "labels are torch.bool"),
        ([0, 1, 2, 3], "labels are a list"),
    ],
)
def test_labels_that_do_not_fit_are_refused_by_every_attack(attack, y, words):
    with pytest.raises(BadInput, match=words):
        attack(y)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int16])
def test_labels_of_any_whole_dtype_are_taken(dtype):
    assert torch.equal(checked_labels(Y.to(dtype), 4), Y)
    assert torch.equal(*(pgd(problems.network(), X, y, steps=2, generator=problems.generator()) for y in (Y, Y.to(dtype))))


STEPPING = [
    pytest.param(lambda step: pgd(problems.network(), X, Y, step=step), 1.0, id="pgd linf"),
    pytest.param(lambda step: pgd(problems.network(), X, Y, "l2", 0.5, step), math.sqrt(192), id="pgd l2"),
    pytest.param(lambda step: adversarial_accuracy(problems.network(), X, Y, "linf", 0.1, step=step), 1.0, id="adversarial_accuracy"),
    pytest.param(lambda step: invert(problems.network(), X, OTHER, 2, step), math.sqrt(192), id="invert"),
    pytest.param(lambda step: follow(problems.identity_code, X.flatten(1), OTHER, 2, step), math.sqrt(192), id="follow"),
    pytest.param(lambda step: maximise(problems.identity_code, UNITS, X, 2, step), math.sqrt(192), id="maximise"),
    pytest.param(lambda step: add_until(problems.identity_code, UNITS, X, torch.ones(4), 2, step), math.sqrt(192), id="add_until"),
]


@pytest.mark.parametrize(("call", "largest"), STEPPING)
def test_a_step_that_leads_nowhere_or_away_or_beyond_the_range_is_refused(call, largest):
    for step in (0, -0.01, math.nan, math.inf, 1.01 * largest):
        with pytest.raises(BadInput, match=f"step={step:g} is not allowed: give a length above 0 and at most {largest:g}, in pixel units"):
            call(step)


@pytest.mark.parametrize("steps", [0, -5, 2.0, True])
def test_every_function_that_steps_needs_a_step(steps):
    code = problems.identity_code
    for call in (
        lambda: invert(problems.network(), X, OTHER, steps),
        lambda: follow(code, X.flatten(1), OTHER, steps, 0.1),
        lambda: interpolate(code, X, OTHER, X, steps, 0.1),
        lambda: invert_fourier(code, X.flatten(1), OTHER, steps, matched_stepper(0.1)),
        lambda: maximise(code, UNITS, X, steps),
        lambda: add_feature(code, UNITS, X, 0.5, steps),
        lambda: add_until(code, UNITS, X, torch.ones(4), steps),
        lambda: adversarial_accuracy(problems.network(), X, Y, "linf", 0.1, steps),
    ):
        with pytest.raises(BadInput, match=f"steps={steps} is not allowed: give a whole number of at least 1"):
            call()


def test_a_step_in_bytes_is_told_what_it_may_have_been():
    with pytest.raises(BadInput, match=r"step=2 is not allowed.*; did you mean 2/255 = 0.0078\?"):
        check_step(2, 1.0)


# --- what a model gives


class Gives(nn.Module):
    """A network whose output is made into something else."""

    def __init__(self, make, dtype=torch.float32):
        super().__init__()
        self.net, self.make = problems.network(dtype=dtype), make

    def forward(self, x):
        return self.make(self.net(x))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda z: (z, None), "the model gives a tuple of Tensor, NoneType: logits .* are needed; say where they are, e.g. logits=0"),
        (lambda z: {"logits": z}, "the model gives a dict with 'logits'"),
        (lambda z: z[:, :1], "the model gives 1 logit an image.*at least 2 are needed"),
        (lambda z: z[:, :, None, None], r"the model gives torch.float32 of shape \(4, 4, 1, 1\) for 4 images"),
        (lambda z: z[:2], r"of shape \(2, 4\) for 4 images"),
        (lambda z: z.argmax(dim=1), r"the model gives torch.int64 of shape \(4,\)"),
    ],
)
def test_a_model_that_gives_something_else_than_logits_is_refused_with_what_it_gave(make, words):
    for call in (
        lambda model: pgd(model, X, Y, steps=1),
        lambda model: adversarial_accuracy(model, X, Y, "l2", 0.1, 1, 1),
        lambda model: predictions(model, X),
    ):
        with pytest.raises(BadInput, match=words):
            call(Gives(make))


@pytest.mark.parametrize(
    ("make", "logits"),
    [(lambda z: (None, z), 1), (lambda z: {"logits": z, "loss": None}, "logits"), (lambda z: [z], lambda given: given[0])],
)
def test_logits_are_taken_from_where_the_caller_says(make, logits):
    model, network = Gives(make), problems.network()
    assert torch.equal(predictions(model, X, logits=logits), predictions(network, X))
    found, wanted = (
        pgd(one, X, Y, steps=2, generator=problems.generator(), **how) for one, how in ((model, {"logits": logits}), (network, {}))
    )
    assert torch.equal(found, wanted)
    assert (
        adversarial_accuracy(model, X, Y, "l2", 0.1, 2, 1, logits=logits).value
        == adversarial_accuracy(network, X, Y, "l2", 0.1, 2, 1).value
    )


def test_logits_that_are_not_there_are_refused_with_what_is():
    with pytest.raises(BadInput, match="logits='out' is not in what the model gives, a dict with 'logits': name what is there"):
        Classifier(Gives(lambda z: {"logits": z}), logits="out")(X)


def test_logits_that_are_no_numbers_have_no_class():
    def spoil(z):
        return torch.where(torch.arange(4)[:, None] == 2, math.nan, z)

    with pytest.raises(BadInput, match=r"logits for images \[2\] are not numbers"):
        predictions(Gives(spoil), X)
    assert predictions(Gives(lambda z: z.index_fill(1, torch.tensor([0]), -math.inf)), X).min() > 0  # a class that is masked out


def test_a_network_that_does_not_fit_its_images_is_refused_with_both_dtypes():
    for call in (predictions, ON_IMAGES["pgd linf"], collect, representation):
        with pytest.raises(BadInput, match=r"images are torch.float64 and the network's weights torch.float32: make both float32"):
            call(problems.network(), X.double())
    with torch.inference_mode():
        frozen = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with pytest.raises(BadInput, match=r"made under torch.inference_mode\(\).*build or load it outside"):
        pgd(frozen, X, Y)
