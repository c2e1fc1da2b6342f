"""Smoothness of anybody's units: modules by name, in-place ReLUs, dead channels, and what is no map."""

import problems
import pytest
import torch
from torch import nn

import reprolib
from reprolib.data import distort
from reprolib.errors import BadInput
from reprolib.measures.smoothness import total_variation

IMAGES = problems.images(37, 3, 12, 12)


def planted(inplace):
    """A convolution, a ReLU that may write over what it is given, another convolution, logits; channel 2 of the ReLU is dead."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(500, 3))
    for k, parameter in enumerate(model.parameters()):
        nn.init.normal_(parameter, std=0.3, generator=problems.generator(k))
    with torch.no_grad():
        model[0].bias[2] = -100
    return model


def test_rows_are_what_hand_made_noise_and_total_variation_give():
    model = planted(False)
    found = reprolib.smoothness(reprolib.wrap(model, (0.5,) * 3, (0.5,) * 3), IMAGES, sigma=0.1)
    assert found.columns.tolist() == ["layer", "channel", "tv_clean", "tv_noisy", "b", "r", "dead"]
    assert list(dict.fromkeys(found["layer"])) == ["0", "1", "2"]
    with torch.no_grad():
        clean, noisy = (total_variation(model[:2](2 * x - 1)).mean(dim=0) for x in (IMAGES, distort.gaussian_noise(IMAGES, 0.1, range(37))))
    relu = found[found["layer"] == "1"].set_index("channel")
    torch.testing.assert_close(torch.tensor(relu["tv_noisy"].to_numpy()).float(), noisy, rtol=1e-4, atol=1e-6)
    expected = ((noisy - clean) / (noisy + clean)).abs()[[0, 1, 3]].tolist()
    assert relu["b"][[0, 1, 3]].tolist() == pytest.approx(expected, rel=1e-3)
    assert relu["r"][[0, 1, 3]].tolist() == pytest.approx(((noisy - clean) / clean).abs()[[0, 1, 3]].tolist(), rel=1e-3)
    assert relu["dead"].tolist() == [False, False, True, False]
    assert relu["b"].isna().tolist() == relu["r"].isna().tolist() == relu["dead"].tolist()


def test_a_relu_in_place_and_the_size_of_a_batch_change_nothing():
    plain = reprolib.smoothness(planted(False), IMAGES)
    for model, size in ((planted(True), 32), (planted(False), 16), (planted(True), 37)):
        other = reprolib.smoothness(model, IMAGES, batch_size=size)
        torch.testing.assert_close(
            *(torch.tensor(one[["tv_clean", "tv_noisy"]].to_numpy()) for one in (other, plain)), rtol=1e-4, atol=1e-5
        )


def test_layers_are_named_and_a_network_of_ours_has_its_maps():
    assert set(reprolib.smoothness(planted(True), IMAGES, layers="2")["layer"]) == {"2"}
    network = problems.network("tinycnn")
    assert list(dict.fromkeys(reprolib.smoothness(network, IMAGES[:4])["layer"])) == list(network.layer_names)


def test_a_layer_all_dead_is_told_of(capsys):
    model = planted(False)
    with torch.no_grad():
        model[0].bias[:] = -100
    found = reprolib.smoothness(model, IMAGES[:4], layers=["1"])
    assert found["dead"].all()
    assert capsys.readouterr().out == "All 4 channels of 1 are dead.\n"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"sigma": float("nan")}, "sigma=nan is not finite: allowed is 0 or more"),
        ({"sigma": -0.1}, "sigma=-0.1 is negative: allowed is 0 or more"),
        ({"layers": ["5"]}, "layer '5' is unknown; allowed: pixels, 0, 1, 2, 3, 4"),
        ({"layers": ["4"]}, r"layer 4 gives no maps \(n, c, h, w\): name one that does"),
        ({"batch_size": 0}, "batch_size=0 is not allowed"),
    ],
)
def test_wrong_input_is_told_in_one_sentence(asked, sentence):
    with pytest.raises(BadInput, match=sentence):
        reprolib.smoothness(planted(False), IMAGES, **asked)


def test_a_network_without_maps_is_refused():
    with pytest.raises(BadInput, match="no module of this network gives maps"):
        reprolib.smoothness(nn.Sequential(nn.Flatten(), nn.Linear(432, 2)), IMAGES)


def test_maps_that_are_not_finite_are_refused_and_those_in_half_precision_do_not_overflow():
    class Halved(nn.Module):
        """A map of 0 and 1,000 in half precision, whose total variation is beyond what half precision holds."""

        def __init__(self):
            super().__init__()
            self.gain, self.map = nn.Parameter(torch.tensor(1000.0)), nn.Identity()

        def forward(self, x):
            return self.map((self.gain * (x > 0.5)).half()).float().mean(dim=(2, 3))

    model = Halved()
    found = reprolib.smoothness(model, IMAGES, sigma=0)
    exact = total_variation(1000 * (IMAGES > 0.5).float()).mean(dim=0)
    assert exact.min() > 65504
    assert found["tv_clean"].tolist() == pytest.approx(exact.tolist())
    with torch.no_grad():
        model.gain.fill_(torch.nan)
    with pytest.raises(BadInput, match="layer 'map' holds values that are not finite"):
        reprolib.smoothness(model, IMAGES)
