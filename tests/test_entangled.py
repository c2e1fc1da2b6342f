"""Entanglement by layer of anybody's network: by hand, in balanced batches, with its picture; and each wrong input in one sentence."""

from __future__ import annotations

import pickle

import problems
import pytest
import torch
from drawing import words
from torch import Tensor, nn

import reprolib
from reprolib.errors import BadInput
from reprolib.measures.entangled_layers import spread_ratio, squared_distances
from reprolib.measures.soft_nearest_neighbor import entanglement

Y = torch.arange(90) % 3
X = (0.9 * problems.images(90, 3, 10, 10) + 0.1 * torch.eye(3)[Y][..., None, None]).clamp(0, 1)
"""Images whose colour tells the class, in part."""


def planted(inplace: bool = False) -> nn.Sequential:
    """A convolution, a ReLU that may write over what it is given, logits of five classes."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace), nn.Flatten(), nn.Linear(256, 5))
    for k, parameter in enumerate(model.parameters()):
        nn.init.normal_(parameter, std=0.1, generator=problems.generator(k))
    return model


def test_each_layer_is_what_its_features_give_batch_by_batch() -> None:
    model = planted(inplace=True)
    found = reprolib.entanglement_by_layer(reprolib.wrap(model, (0.5,) * 3, (0.5,) * 3), X, Y, per_class=10)
    assert list(found.columns) == ["layer", "entanglement", "low", "high", "temperature", "at_bound", "spread"]
    assert found["layer"].tolist() == ["0", "1", "2", "3"]
    assert (found.batch, found.n_classes) == (30, 3)
    with torch.no_grad():
        relu = planted()[:2](2 * X - 1).flatten(1)
    batches = [slice(0, 30), slice(30, 60), slice(60, 90)]
    alone = [entanglement(relu[at], Y[at]) for at in batches]
    row = found.set_index("layer").loc["1"]
    share = sum(one.share for one in alone) / 3
    assert 0.05 < share < 0.9
    assert row["entanglement"] == pytest.approx(share, abs=1e-4)
    assert row["low"] < row["entanglement"] < row["high"]
    assert row["temperature"] == pytest.approx(sorted(one.relative_temperature for one in alone)[1], rel=0.05)
    assert row["spread"] == pytest.approx(sum(float(spread_ratio(squared_distances(relu[at]), Y[at])) for at in batches) / 3, rel=1e-4)
    assert model.training


def test_batches_are_balanced_whatever_the_order_and_absent_a_size_as_many_as_the_rarest_class_has() -> None:
    order = torch.cat([Y.argsort(stable=True), torch.arange(5)])
    found = reprolib.entanglement_by_layer(planted(), X[order], 7 * Y[order] + 2)
    assert (found.batch, found.n_classes) == (36, 3)
    plain = reprolib.entanglement_by_layer(planted(), X[:72], Y[:72])
    assert found["entanglement"].tolist() == pytest.approx(plain["entanglement"].tolist(), abs=1e-6)
    few = reprolib.entanglement_by_layer(planted(), X[:17], Y[:17])  # 6, 6 and 5
    assert few.batch == 15
    assert few["low"].isna().all()


def test_a_network_of_ours_has_its_maps_and_layers_are_named() -> None:
    network = problems.network("tinycnn")
    found = reprolib.entanglement_by_layer(network, X, Y)
    assert found["layer"].tolist() == [*network.layer_names, "pooled"]
    assert reprolib.entanglement_by_layer(planted(), X, Y, layers="1")["layer"].tolist() == ["1"]
    wrapped = reprolib.wrap(planted(), (0.5,) * 3, (0.5,) * 3)
    assert reprolib.entanglement_by_layer(wrapped, X, Y, layers=["1", "3"])["layer"].tolist() == ["1", "3"]


def test_the_picture_says_what_the_batches_are_and_frames_of_others_do_not_go_on_it() -> None:
    found, other = (reprolib.entanglement_by_layer(one, X, Y) for one in (planted(), problems.network("tinycnn")))
    drawn = found.plot(beside={"tinycnn": other})
    assert {"mine", "tinycnn", "batches of 36 images, 3 classes\n(other sizes do not compare)"} <= set(words(drawn))
    (ax,) = drawn.axes
    assert any(line.get_linestyle() == "--" and set(line.get_ydata()) == {1} for line in ax.lines)
    assert ax.lines[0].get_ydata().tolist() == found["entanglement"].tolist()
    assert found[found["layer"] == "1"].plot() is not None
    assert pickle.loads(pickle.dumps(found)).batch == 36
    with pytest.raises(
        BadInput, match=r"'small' is of batches of 15 images in 3 classes, mine of 36 in 3: values at different sizes do not"
    ):
        found.plot(beside={"small": reprolib.entanglement_by_layer(planted(), X, Y, per_class=5)})
    with pytest.raises(BadInput, match="'mean' is a float: give what `entanglement_by_layer` gave of other networks"):
        found.plot(beside={"mean": 0.5})  # type: ignore[dict-item]


def test_the_images_of_a_data_set_bring_labels() -> None:
    found = reprolib.entanglement_by_layer(problems.network("tinycnn"), "shapetexture_gratings", n=60, size_px=16)
    assert found.n_classes == 4


@pytest.mark.parametrize(
    ("x", "y", "more", "words"),
    [
        (X, None, {}, "no labels for 90 images: give labels"),
        (X, Y[:80], {}, r"labels are torch.int64 of shape \(80,\) for 90 images: give whole class numbers \(90,\)"),
        (X, Y.float(), {}, "give whole class numbers"),
        (X[:1], Y[:1], {}, "all 1 images are of class 0: give images of at least two classes"),
        (X, torch.full_like(Y, 4), {}, "all 90 images are of class 4"),
        (X[:4], torch.arange(4), {}, "class 0 has a single image, .*: give two of each, or leave the class out"),
        (X, 90 * ["a"], {}, "labels are a list that is no tensor .*: give whole class numbers, one an image"),
        (X, Y, {"per_class": 1}, "class 0 has 30 images, for batches of 1 of each: .* per_class from 2 to 30"),
        (X, Y, {"per_class": 31}, "class 0 has 30 images, for batches of 31 of each: .* per_class from 2 to 30"),
        (X, Y, {"per_class": 0}, "per_class=0 is not allowed"),
        (X, Y, {"layers": "relu"}, "layer 'relu' is unknown"),
        (2 * X, Y, {}, r"\[0, 1\]"),
    ],
)
def test_what_has_no_answer_is_refused_in_words(x: Tensor, y: Tensor | list[str] | None, more: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        reprolib.entanglement_by_layer(planted(), x, y, **more)  # type: ignore[arg-type]


def test_a_layer_that_is_not_finite_is_named_and_batches_that_do_not_fit_are_refused() -> None:
    broken = planted()
    with torch.no_grad():
        broken[3].bias[0] = torch.nan
    with pytest.raises(BadInput, match=r"layer 3: features of samples \[0, 1, .* hold values that are not finite"):
        reprolib.entanglement_by_layer(broken, X, Y)
    many = torch.arange(2_200) % 1_100
    with pytest.raises(BadInput, match="batches of 2 images in 1100 classes hold more than 2048: give fewer classes"):
        reprolib.entanglement_by_layer(planted(), torch.zeros(2_200, 3, 10, 10), many)
