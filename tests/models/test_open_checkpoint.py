"""A reader's own module is filled in from whatever a trainer, an averager or a wrapper saved, and what was read is said."""

import copy

import problems
import pytest
import releases
import torch
from torch import nn
from torchvision.transforms import Normalize

import reprolib
from reprolib.errors import BadInput, CorruptFile
from reprolib.models.checkpoints import load_public
from reprolib.models.networks import build

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
X = problems.images(2, 3, 16, 16)


class Normalise(nn.Module):
    """As the attack libraries advise: a first module with buffers."""

    def __init__(self, mean=MEAN, std=STD) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, x):
        return (x - self.mean) / self.std


def net(seed: int = 0) -> nn.Module:
    """No architecture that is known anywhere."""
    body = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU())
    model = nn.ModuleDict({"body": body, "head": nn.Sequential(nn.Flatten(), nn.Linear(4 * 49, 5))})
    return releases.shaken(nn.Sequential(model["body"], model["head"]), seed)


STATE, OTHER, WANTED = net().state_dict(), net(1).state_dict(), releases.normalised(net(), X, MEAN, STD)
NORMALISER = {"0.mean": torch.tensor(MEAN), "0.std": torch.tensor(STD)}
P = releases.prefixed


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (STATE, {}, "from the file itself"),
        (P("module.", STATE), {}, "from the file itself"),
        ({"net": P("module._orig_mod.", STATE), "acc": 93.1, "optimizer": {"state": {0: {"step": torch.ones(2, 2)}}}}, {}, "from net"),
        ({"state_dict": P("model.", STATE) | {"loss.weight": torch.ones(2)}}, {}, "behind 'model.', 1 tensors left out (loss.weight)"),
        ({"state_dict": STATE, "state_dict_ema": OTHER}, {}, "from state_dict (not read: state_dict_ema)"),
        ({"state_dict": OTHER, "state_dict_ema": STATE}, {"state": "state_dict_ema"}, "from state_dict_ema (not read: state_dict)"),
        ({"best": OTHER, "last": STATE}, {"state": "last"}, "from last (not read: best)"),
        ({"generator": {"a": OTHER}, "judge": {"a": STATE}}, {"state": "judge"}, "from judge.a (not read: generator.a)"),
        (P("student.", OTHER) | P("teacher.", STATE), {"state": "teacher"}, "behind 'teacher.'"),
        (torch.optim.swa_utils.AveragedModel(net()).state_dict(), {}, "averaged weights"),
        (net(), {"allow_pickle": True}, "from the file itself"),
    ],
)
def test_the_state_is_found_and_what_was_read_is_said(save, capsys, content, options, said):
    model = net(2)
    before = copy.deepcopy(model.train())
    found = reprolib.open_checkpoint(save(content), model, mean=MEAN, std=STD, **options)
    assert releases.gives(found, WANTED, X)
    assert said in capsys.readouterr().out
    assert found.card["normaliser_source"] == "mean= and std=, as given"
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("content", "model", "source"),
    [
        (NORMALISER | P("1.module.", STATE), net(2), "the file (0.mean and 0.std)"),
        (STATE | releases.buffers(MEAN, STD, ("mu", "sigma")), net(2), "the file (mu and sigma)"),
        (STATE, nn.Sequential(Normalise(), net(2)), "Sequential itself"),
        (P("model.", STATE), nn.Sequential(Normalise(), net(2)), "Sequential itself"),
        (STATE, nn.Sequential(Normalize(MEAN, STD), net(2)), "Sequential itself"),
        (NORMALISER | P("1.", STATE), nn.Sequential(Normalise(STD, MEAN), net(2)), "Sequential itself, as in the file"),
    ],
)
def test_a_normaliser_is_found_in_the_file_or_the_module_and_what_is_given_beats_it(save, content, model, source):
    path = save(content)
    found = reprolib.open_checkpoint(path, model)
    assert releases.gives(found, WANTED, X)
    assert found.card["normaliser_source"] == source
    given = reprolib.open_checkpoint(path, model, mean=STD, std=MEAN)
    assert releases.gives(given, releases.normalised(net(), X, STD, MEAN), X)


@pytest.mark.parametrize(
    ("content", "model", "options", "why"),
    [
        (STATE, net(), {}, r"holds a normaliser: give mean= and std=.*mean=\(0, 0, 0\), std=\(1, 1, 1\) where it takes pixels as they are"),
        (STATE, net(), {"mean": MEAN}, r"give one of each a channel"),
        (STATE | {"0.0.bias": torch.ones(3)}, net(), {"mean": MEAN, "std": STD}, r"is no Sequential: 1 of another shape \(0\.0\.bias\)"),
        (STATE | {"0.0.bias": torch.ones(4).int()}, net(), {"mean": MEAN, "std": STD}, r"1 not of floating-point numbers \(0\.0\.bias\)"),
        (dict(list(STATE.items())[2:]) | {"a": STATE["0.0.bias"]}, net(), {}, r"2 missing \(0.0.weight, 0.0.bias\); 1 unexpected \(a\)"),
        ({"a": STATE, "b": OTHER}, net(), {}, r"holds 2 states: choose one by state=, allowed: 'a', 'b'"),
        ({"ema": STATE, "b": OTHER}, net(), {"state": "ena"}, r"allowed: 'ema', 'b'; did you mean 'ema'"),
        ({"net": STATE}, net(), {"state": "last"}, r"holds 1 states: choose one by state=, allowed: 'net'"),
        (P("student.", OTHER) | P("teacher.", STATE), net(), {}, r"several networks .* 'student', 'teacher': choose one by state="),
        (releases.buffers(STD, MEAN, ("mu", "sigma")) | STATE, nn.Sequential(Normalise(), net()), {}, r"differ.*by mean=, std="),
        (STATE, "resnet-18", {}, r"allowed: a module, 'torchvision:NAME'.*did you mean 'resnet18'"),
        (STATE, "torchvision:resnet-18", {}, r"no classifier of torchvision; did you mean 'resnet18'"),
    ],
)
def test_what_does_not_fit_or_has_to_be_said_is_refused_in_one_sentence(save, content, model, options, why):
    with pytest.raises(BadInput, match=why):
        reprolib.open_checkpoint(save(content), model, **options)


def test_architectures_are_built_by_name_with_the_classes_of_the_file(save):
    ours = build("tinycnn", 7, MEAN, STD, seed=3).eval()
    with torch.no_grad():
        assert releases.gives(reprolib.open_checkpoint(save({"net": ours.state_dict()}), "tinycnn"), ours(X), X)
    bare = {name: tensor for name, tensor in ours.state_dict().items() if not name.startswith("normaliser")}
    assert reprolib.open_checkpoint(save(bare), "tinycnn", mean=MEAN, std=STD).normaliser.mean.flatten().tolist() == pytest.approx(MEAN)
    with pytest.raises(BadInput, match="nor tinycnn holds a normaliser"):
        reprolib.open_checkpoint(save(bare), "tinycnn")
    import torchvision

    theirs = releases.shaken(torchvision.models.squeezenet1_1(num_classes=3))
    found = reprolib.open_checkpoint(save(P("module.", theirs.state_dict())), "torchvision:squeezenet1_1", mean=MEAN, std=STD)
    assert releases.gives(found, releases.normalised(theirs, problems.images(1, 3, 32, 32), MEAN, STD), problems.images(1, 3, 32, 32))


# Files of others that name no module


@pytest.mark.parametrize("name", ["net", "model_state_dict", "ema", "weights"])
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_a_public_state_lies_under_any_name_or_in_safetensors_of_others(save, tmp_path, cifar18, name, ending):
    import safetensors.torch

    path = save({name: P("module.", cifar18.state_dict()), "acc": 93.1})
    if ending == "safetensors":
        safetensors.torch.save_file(P("1.module.", cifar18.state_dict()), path)  # whatever its ending is
    assert releases.gives(load_public(path, mean=MEAN, std=STD), releases.normalised(cifar18, releases.X, MEAN, STD))
    with pytest.raises(BadInput, match="leave mean= and std= out|choose one|holds no normaliser"):
        load_public(path)


def test_what_the_caller_says_beats_a_guess_and_what_tensors_do_not_say_is_in_the_card(save, cifar18):
    plain = releases.oval()
    path = save({"best": plain.state_dict(), "last": releases.oval().state_dict()})
    assert releases.gives(load_public(path, dataset="raw"), releases.normalised(plain, releases.X, (0,) * 3, (1,) * 3))
    assert load_public(path).card["members"][0]["state"] == "best (not read: last)"
    assumed = load_public(save(cifar18.state_dict()), dataset="cifar100").card["members"][0]["assumed"]
    assert any("stride 1 and no max-pool" in one for one in assumed)
    wide = releases.shaken(releases.MadryCifar())
    wide.conv1 = nn.Conv2d(3, 4, 7, 1, 3, bias=False)
    assumed = load_public(save(wide.state_dict()), dataset="cifar10").card["members"][0]["assumed"]
    assert any("stride 2 and a max-pool" in one for one in assumed)


def test_an_expected_accuracy_is_a_share_of_images_in_the_unit_range(save):
    path, x = save(releases.oval().state_dict()), problems.images(4, 3, 32, 32)
    from reprolib.models.checkpoints import ExpectedAccuracy

    for images, label, value, why in (
        (x * 255, 0, 0.5, "divide bytes by 255"),
        (x, 0, 90, r"90 \+- 0.1 is not allowed: give shares"),
        (x, -1, 0.5, "label -1 of image 0 is not one of the network's 10 classes"),
    ):
        with pytest.raises(BadInput, match=why):
            load_public(path, accuracy=ExpectedAccuracy(images, torch.full((4,), label), value, 0.1))
    with pytest.raises(CorruptFile, match="holds no state dict"):
        load_public(save({"a": {}}))
