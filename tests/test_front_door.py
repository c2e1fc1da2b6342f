"""Anybody's network, three lines a question: modules that are none of ours, images in every form, and what is already there."""

import numpy as np
import problems
import pytest
import torch
from PIL import Image
from torch import nn

import reprolib
from reprolib.data.pictures import pictures
from reprolib.errors import BadInput, CorruptFile, MissingData
from reprolib.measures.intervals import jackknife, of_mean, of_share

IMAGES = problems.images(16, 3, 8, 8)
HALF = (0.5,) * 3


class Tokens(nn.Module):
    """Maps, then tokens, then logits; beside them a module that never runs. output: what is made of the logits."""

    def __init__(self, output=lambda logits: logits):
        super().__init__()
        self.head, self.mix, self.patch, self.idle = nn.Linear(6, 3), nn.Linear(6, 6), nn.Conv2d(3, 6, 4, 4), nn.Linear(1, 1)
        self.output = output
        for k, parameter in enumerate(self.parameters()):
            nn.init.normal_(parameter, std=0.5, generator=problems.generator(k))

    def forward(self, x):
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        return self.output(self.head(self.mix(tokens).relu().mean(dim=1)))


@pytest.fixture(scope="module")
def net():
    return reprolib.wrap(Tokens(), HALF, HALF)


def test_a_wrapped_model_takes_images_in_the_unit_range_and_is_shared():
    model = Tokens()
    assert torch.equal(reprolib.wrap(model, HALF, (0.25,) * 3)(IMAGES), model((IMAGES - 0.5) / 0.25))
    assert reprolib.wrap(model, HALF, HALF).model is model


@pytest.mark.parametrize(
    ("output", "logits"),
    [(lambda y: (None, y), 1), (lambda y: {"logits": y}, "logits"), (lambda y: {"a": {"b": y}}, lambda given: given["a"]["b"])],
)
def test_logits_in_a_tuple_or_a_dict_are_named_or_the_model_is_refused(output, logits):
    model = Tokens(output)
    assert torch.equal(reprolib.wrap(model, HALF, HALF, logits=logits)(IMAGES), reprolib.wrap(Tokens(), HALF, HALF)(IMAGES))
    with pytest.raises(BadInput, match=r"the model gives a (tuple|dict) .*: logits \(n, classes\) are needed; say where they are"):
        reprolib.wrap(model, HALF, HALF)(IMAGES)


def test_a_normaliser_in_other_units_other_weights_and_parallel_wrappers_are_refused():
    for mean, std in (((123.7,) * 3, (58.4,) * 3), (HALF, (0.0,) * 3), (HALF, (0.5,)), ((), ())):
        with pytest.raises(BadInput, match=r"give one of each a channel, in units of \[0, 1\]"):
            reprolib.wrap(Tokens(), mean, std)
    with pytest.raises(BadInput, match=r"weights of torch.float16: .* model.float\(\)"):
        reprolib.wrap(Tokens().half(), HALF, HALF)
    with pytest.raises(BadInput, match="its .module"):
        reprolib.wrap(nn.DataParallel(Tokens()), HALF, HALF)
    with pytest.raises(BadInput, match="images have 3 channels, mean and std 1"):
        reprolib.wrap(Tokens(), (0.5,), (0.5,))(IMAGES)


def test_a_cka_map_has_the_layers_that_run_maps_and_tokens_alike_in_the_order_of_execution(net):
    found = reprolib.cka_map(net, IMAGES)
    assert found.layers == ("patch", "mix", "head")
    assert len(found.frame) == 9
    assert (found.frame["low"] <= found.frame["cka"]).all()
    assert (found.frame["cka"] <= found.frame["high"] + 1e-12).all()
    assert list(found.indices()["index"]) == ["off_diagonal_mean", "long_range_mean", "lag_slope", "effective_rank"]
    assert reprolib.cka_map(net, IMAGES, ["mix", "head"]).layers == ("mix", "head")
    assert found.plot({"another": found})._repr_png_()
    with pytest.raises(BadInput, match="needs at least 8"):
        reprolib.cka_map(net, IMAGES[:7])


def test_an_inverse_has_nearly_the_code_that_the_head_is_given(net):
    found = reprolib.inverses(net, IMAGES[:3], steps=150)
    assert found.layer == "the input of head"
    assert (found.d_rel < reprolib.inverses(net, IMAGES[:3], steps=1).d_rel / 2).all()
    assert found.value == pytest.approx(float(found.d_rel.mean()), rel=1e-4)
    assert found.low <= found.value <= found.high
    assert 0 <= found.images.min() <= found.images.max() <= 1
    assert reprolib.inverses(net, IMAGES[:3], "mix", steps=1).layer == "mix"
    assert found.plot({"another": found})._repr_png_()
    for layer, why in (("idle", "idle did not run in the forward pass"), ("mx", "did you mean 'mix'")):
        with pytest.raises(BadInput, match=why):
            reprolib.inverses(net, IMAGES[:3], layer)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_attack_accuracy_has_an_interval_and_is_that_of_a_model_whose_margins_are_known():
    model = problems.Linear(problems.images(3, 8, 8, low=-1))
    x = problems.images(16, 3, 8, 8, low=0.3, high=0.7)  # away from the ends of the pixel range
    net, y = reprolib.wrap(model, (0,) * 3, (1,) * 3), model.labels(x)
    eps = 1.01 * float(model.margin(x, "linf").median())
    found = reprolib.attack_accuracy(net, x, y, eps=eps)
    assert found.correct.tolist() == (model.margin(x, "linf") > eps).tolist()
    assert found.low < float(found) == found.correct.float().mean() < found.high
    assert found.clean == of_share(16, 16)
    assert found.plot({"another": found})._repr_png_()
    with pytest.raises(BadInput, match="no labels for 16 images"):
        reprolib.attack_accuracy(net, x)


def test_a_folder_of_pictures_is_resized_and_cropped_and_a_broken_one_named(tmp_path):
    (tmp_path / "class").mkdir()
    left_and_right = np.zeros((10, 30, 3), dtype=np.uint8)
    left_and_right[:, 10:20] = 255
    Image.fromarray(left_and_right).save(tmp_path / "class" / "wide.png")
    Image.fromarray(left_and_right[:, :, 0]).save(tmp_path / "grey.PNG")
    (tmp_path / "notes.txt").write_text("no picture")
    x, labels = pictures(tmp_path, size_px=5)
    assert (x.shape, labels) == ((2, 3, 5, 5), None)
    assert x[:, :, :, 2].min() > 0.99
    assert pictures(str(tmp_path), n=1)[0].shape == (1, 3, 224, 224)
    (tmp_path / "broken.jpg").write_bytes(b"<html>")
    with pytest.raises(CorruptFile, match=r"broken.jpg cannot be read as a picture"):
        pictures(tmp_path)
    with pytest.raises(MissingData, match=r"is no folder, and no data set .*did you mean 'cifar10'"):
        pictures("cifar-10")


def test_intervals_are_wilsons_and_students_and_a_jackknife_of_a_mean_is_that_of_students():
    assert of_share(0, 10) == (0, 0, pytest.approx(0.2775, abs=1e-4))
    values = problems.images(9).numpy()
    found = jackknife(lambda draws: draws @ values / draws.sum(axis=1), 9)
    assert found == pytest.approx(of_mean(values), rel=1e-5)


def test_a_network_of_the_zoo_is_loaded_or_what_is_there_and_what_trains_it_is_said():
    assert reprolib.network("w8", "l2_05").card["name"] == "w8-l2_05-s0"
    with pytest.raises(MissingData, match=r"`reprolib train --scale cifar --only w8-l2_05-s9`; there of w8: w8-blur-s0, "):
        reprolib.network("w8", "l2_05", seed=9)
    with pytest.raises(BadInput, match="did you mean 'resnet18'"):
        reprolib.network("resnet-18", "std")


def test_committed_rows_are_a_frame_or_where_there_are_some_is_said():
    assert {"claim", "quantity", "value"} <= set(reprolib.rows("invertibility", "cifar").columns)
    with pytest.raises(MissingData, match="no rows of invertibility are committed at scale gpu: they are at cifar, laptop"):
        reprolib.rows("invertibility", "gpu")
