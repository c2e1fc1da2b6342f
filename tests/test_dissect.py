"""Units of anybody's network: dissected by scenes, by one's own masks, in-place ReLU or not; each wrong input in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import problems
import pytest
import torch
from torch import Tensor, nn

import reprolib
from reprolib.data.images import images as labelled
from reprolib.data.scenes import Scenes, render
from reprolib.data.shapetexture import World
from reprolib.errors import BadInput
from reprolib.units import concepts_of


class Reds(nn.Module):
    """Unit k answers to channel k alone; an in-place ReLU follows, and a unit that is dead."""

    def __init__(self, inplace: bool = True, gain: float = 1.0) -> None:
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(3, 4, 1), nn.ReLU(inplace), nn.Linear(4, 2)
        with torch.no_grad():
            self.conv.weight.copy_(gain * torch.eye(4, 3)[..., None, None])
            self.conv.bias.copy_(gain * torch.tensor([-0.9, -0.9, -0.9, 0]))  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.conv(x)).mean(dim=(2, 3)))


def spots() -> tuple[Tensor, list[tuple[str, str, Tensor]]]:
    """Images of one square in each of three colours, and their masks."""
    x, masks = torch.full((12, 3, 32, 32), 0.2), torch.zeros(3, 12, 32, 32, dtype=torch.bool)
    for i in range(12):
        for k in range(3):
            masks[k, i, 2 + i : 5 + i, 1 + 10 * k : 4 + 10 * k] = True
            x[i, k][masks[k, i]] = 1.0
    return x, [("colour", name, mask) for name, mask in zip(("red", "green", "blue"), masks, strict=True)]


@pytest.mark.parametrize("inplace", [False, True])
def test_ones_own_masks_name_the_units_of_any_module(inplace: bool) -> None:
    x, concepts = spots()
    for given in (x, labelled((x * 255).round().byte(), torch.zeros(12), ("any",), "spots")):
        units = reprolib.dissect(Reds(inplace), given, concepts, quantile=0.0088)
        conv = units[units["layer"] == "conv"]
        assert units["layer"].unique().tolist() == ["conv", "relu"]
        assert conv["concept"].tolist() == ["red", "green", "blue", ""]
        assert conv["iou"][:3].tolist() == pytest.approx([1, 1, 1])
        assert conv["threshold"][:3].tolist() == pytest.approx([-0.7] * 3, abs=1e-6)  # before the ReLU that writes over it
        assert conv["dead"].tolist() == [False, False, False, True]
        assert units[units["layer"] == "relu"]["threshold"][:3].tolist() == [0, 0, 0]


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return render(World(), range(30))


def test_scenes_bring_their_concepts_to_a_network_and_to_a_wrapped_model(scenes: Scenes) -> None:
    units = reprolib.dissect(problems.network("tinycnn"), scenes)
    assert units.groupby("layer").size().to_dict() == {"conv1": 16, "conv2": 32, "conv3": 64}
    names = {name: category for category, name, _ in concepts_of(scenes)}
    has = units[units["concept"] != ""]
    assert (has["concept"].map(names) == has["category"]).all()
    assert (has["iou"] >= has["second_iou"]).all()
    wrapped = reprolib.dissect(reprolib.wrap(Reds(), (0.5,) * 3, (0.5,) * 3), scenes, layers=["conv"])
    assert wrapped["layer"].tolist() == ["conv"] * 4


def test_a_layer_of_dead_units_is_left_out_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    x, concepts = spots()
    model = Reds(inplace=False)
    model.conv.bias.data.fill_(-5)  # type: ignore[union-attr]
    units = reprolib.dissect(model, x, concepts)
    assert set(units["layer"]) == {"conv"}
    none = reprolib.dissect(model, x, concepts, layers="relu")
    assert len(none) == 0
    assert list(none) == list(units)
    assert "Layer relu: all 4 units are dead (mean |a| below 1e-08 on all images), and are left out." in capsys.readouterr().out


@pytest.mark.parametrize("state", [lambda: torch.autocast("cpu", torch.bfloat16), torch.inference_mode])
def test_the_callers_precision_and_modes_change_nothing(state: Callable[[], AbstractContextManager[Any]], scenes: Scenes) -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3, stride=3), nn.BatchNorm2d(6), nn.Dropout(0.5))
    for k, parameter in enumerate(model.parameters()):
        nn.init.normal_(parameter, generator=problems.generator(k))
    plain = reprolib.dissect(model, scenes, quantile=0.02)
    with state():
        assert reprolib.dissect(model, scenes, quantile=0.02).equals(plain)
    try:
        torch.set_default_dtype(torch.float64)
        assert reprolib.dissect(model, scenes, quantile=0.02).equals(plain)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(part.training and not part._forward_hooks for part in model.modules())


def test_one_layer_is_named_as_a_text_and_a_wrapped_model_says_its_own_names(scenes: Scenes) -> None:
    wrapped = reprolib.wrap(Reds(), (0.5,) * 3, (0.5,) * 3)
    assert set(reprolib.dissect(wrapped, scenes, layers="conv")["layer"]) == {"conv"}
    for of in (reprolib.dissect, lambda net, given, layers: reprolib.smoothness(net, X, layers)):
        with pytest.raises(BadInput, match="^layer 'convv' is unknown; allowed: conv, relu, head; did you mean 'conv'"):
            of(wrapped, scenes, layers=["convv"])


def test_a_network_of_another_precision_and_what_is_no_network_are_refused(scenes: Scenes) -> None:
    for net, sentence in ((Reds().half(), r"make both float32"), ("resnet18", "model='resnet18' is no network: give a module")):
        with pytest.raises(BadInput, match=sentence):
            reprolib.dissect(net, scenes)  # type: ignore[arg-type]


def wrong(**given: Any) -> dict[str, Any]:
    return given


X, CONCEPTS = spots()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (wrong(layers=["convv"]), "layer 'convv' is unknown; allowed: .*did you mean 'conv'"),
        (wrong(layers=["head"]), r"layer 'head' gives \(12, 2\), no map"),
        (wrong(concepts=[(*CONCEPTS[0][:2], CONCEPTS[0][2][:, :16])]), r"concept 'red' \(colour\) has masks \(12, 16, 32\) for images"),
        (wrong(concepts=[(*CONCEPTS[0][:2], CONCEPTS[0][2][:9])]), r"has masks \(9, 32, 32\) .*: give \(12, 32, 32\), one an image"),
        (wrong(concepts=[*CONCEPTS, ("a", "b", 0 * CONCEPTS[0][2])]), r"concept 'b' \(a\) has no pixel in any image"),
        (wrong(concepts=[*CONCEPTS, ("a", "b", 1 + 0 * CONCEPTS[0][2])]), r"concept 'b' \(a\) is everywhere in every image"),
        (wrong(concepts=CONCEPTS[:1]), "1 concept is given: .*give two at least"),
        (wrong(concepts=None), "concepts are needed"),
        (wrong(concepts={"red": CONCEPTS[0][2]}), r"a concept is a str of length 3: give \(category, name, masks \(n, h, w\) bool\) each"),
        (wrong(concepts=[one[1:] for one in CONCEPTS]), "a concept is a tuple of length 2"),
        (wrong(concepts=[("colour", "red", "red.png")]), r"concept 'red' \(colour\) has a str as masks: give a tensor \(12, 32, 32\)"),
        (wrong(layers=[]), "layers are empty"),
        (wrong(quantile=1.0), r"quantile=1.0 is not allowed: .* in \(0, 1\)"),
        (wrong(quantile=0.0005), "quantile=0.0005 leaves 6 of the 12288 positions of layer 'conv' above"),
        (wrong(images=X * 255), "divide bytes by 255"),
    ],
)  # fmt: skip
def test_wrong_inputs_are_refused_in_one_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        reprolib.dissect(Reds(), **{"images": X, "concepts": CONCEPTS, **given})


def test_a_model_without_maps_is_refused() -> None:
    with pytest.raises(BadInput, match="no part of this Sequential gives a map"):
        reprolib.dissect(nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)), X, CONCEPTS)
