"""Every public format gives the logits its publisher's own code gives, and nothing in a file is ever run."""

import math
import re

import problems
import pytest
import releases
import torch
import torchvision
from releases import gives

from reprolib import store
from reprolib.errors import BadInput, CorruptFile, MissingData
from reprolib.models.checkpoints import NORMALISERS, ExpectedAccuracy, load_public
from reprolib.perturb.attacks import predictions

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)  # nobody's: a normaliser that is not read from the file shows
CIFAR = NORMALISERS["cifar10"]
X = releases.X
X_LARGE = problems.images(2, 3, 96, 96)


@pytest.fixture(scope="module")
def imagenet18():
    return releases.shaken(torchvision.models.resnet18())


@pytest.fixture(scope="module")
def googlenet():
    return releases.shaken(torchvision.models.GoogLeNet(num_classes=1000, init_weights=False))


# MadryLab/robustness and those that follow it


@pytest.mark.parametrize("top", ["model", "state_dict"])
@pytest.mark.parametrize(
    ("n_blocks", "n_convs", "architecture"), [((2, 2, 2, 2), 2, "cifar_resnet18"), ((3, 4, 6, 3), 3, "cifar_resnet50")]
)
def test_robustness_cifar(save, top, n_blocks, n_convs, architecture):
    theirs = releases.shaken(releases.MadryCifar(n_blocks, n_convs))
    state = releases.madry(theirs.state_dict(), MEAN, STD)
    network = load_public(save({top: state, "epoch": 150, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "schedule": None}))
    assert gives(network, releases.normalised(theirs, X, MEAN, STD))
    assert network.architecture == architecture
    assert network.normaliser_source == "file (normalizer.new_mean and normalizer.new_std)"


def test_a_normaliser_in_the_file_goes_before_the_data_set(save, cifar18):
    network = load_public(save({"model": releases.madry(cifar18.state_dict(), MEAN, STD)}), dataset="cifar10")
    assert gives(network, releases.normalised(cifar18, X, MEAN, STD))


def test_a_robustness_file_whose_attacker_is_another_network_is_refused(save, cifar18):
    state = releases.madry(cifar18.state_dict(), MEAN, STD)
    state["module.attacker.model.layer2.0.conv1.weight"] = state["module.attacker.model.layer2.0.conv1.weight"] + 1
    with pytest.raises(BadInput, match="several networks with the same names, behind 'model', 'attacker.model': choose one by state="):
        load_public(save({"model": state}))


def test_restricted_imagenet_is_known_by_its_nine_outputs(save):
    theirs = releases.shaken(torchvision.models.resnet50(num_classes=9))
    network = load_public(save({"model": releases.madry(theirs.state_dict())}))
    assert (network.architecture, network.n_classes) == ("imagenet_resnet50", 9)
    assert gives(network, releases.normalised(theirs, X_LARGE, *NORMALISERS["restricted_imagenet"]), X_LARGE)
    assert network.normaliser_source == "dataset restricted_imagenet, known by the 9 outputs"


def test_robust_imagenet_models(save, imagenet18):
    network = load_public(save({"model": releases.madry(imagenet18.state_dict())}, "resnet18_l2_eps3.ckpt"))
    assert gives(network, releases.normalised(imagenet18, X_LARGE, *NORMALISERS["imagenet"]), X_LARGE)
    assert network.normaliser_source == "dataset imagenet, known by the 1000 outputs"


def test_shape_bias_alexnet_has_its_head_elsewhere(save):
    theirs = releases.narrow_alexnet()
    network = load_public(save({"model": releases.madry(releases.shape_bias_alexnet(theirs), MEAN, STD)}), "alexnet")
    assert gives(network, releases.normalised(theirs, X_LARGE, MEAN, STD), X_LARGE)


def test_torchvision_alexnet(save):
    theirs = releases.narrow_alexnet()
    assert gives(load_public(save(theirs.state_dict())), releases.normalised(theirs, X_LARGE, *NORMALISERS["imagenet"]), X_LARGE)


def test_shape_bias_googlenet_has_one_branch_renamed_and_its_training_heads_are_left_out(save, googlenet):
    state = {re.sub(r"branch4\.1\.", "branch4_conv.", name): t for name, t in googlenet.state_dict().items()}
    assert any(name.startswith("aux1.") for name in state)
    network = load_public(save({"model": releases.madry(state, *NORMALISERS["imagenet"])}))
    assert gives(network, releases.normalised(googlenet, X_LARGE, *NORMALISERS["imagenet"]), X_LARGE)


def test_torchvision_googlenet_transforms_its_input_which_its_file_does_not_say(save, googlenet):
    googlenet.transform_input = True  # what torchvision sets for its own weights
    expected = releases.normalised(googlenet, X_LARGE, *NORMALISERS["imagenet"])
    googlenet.transform_input = False
    network = load_public(save(googlenet.state_dict()))
    with torch.no_grad():
        torch.testing.assert_close(network(X_LARGE), expected, rtol=1e-3, atol=1e-3)
        assert not torch.allclose(network(X_LARGE), releases.normalised(googlenet, X_LARGE, *NORMALISERS["imagenet"]), atol=1e-2)
    assert network.normaliser_source == "release (torchvision, transform_input)"


# RobustBench


@pytest.mark.parametrize(("names", "shape"), [(("mu", "sigma"), (1, 3, 1, 1)), (("mean", "std"), (3, 1, 1))])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "_orig_mod.module."])
def test_robustbench_cifar_with_buffers(save, cifar18, names, shape, prefix):
    state = cifar18.state_dict() | releases.buffers(MEAN, STD, names, shape)
    network = load_public(save(releases.prefixed(prefix, state)))
    assert gives(network, releases.normalised(cifar18, X, MEAN, STD))
    before = "model." if prefix.endswith("model.") else ""
    assert network.normaliser_source == f"file ({before}{names[0]} and {before}{names[1]})"


@pytest.mark.parametrize(("present", "taken"), [(("last", "best"), "best"), (("last",), "last"), (("best", "state_dict"), "state_dict")])
def test_the_first_of_the_known_wrappers_is_taken(save, present, taken):
    theirs = {name: releases.shaken(releases.MadryCifar(), seed) for seed, name in enumerate(present)}
    network = load_public(save({name: net.state_dict() for name, net in theirs.items()}), dataset="raw")
    assert gives(network, releases.normalised(theirs[taken], X, *NORMALISERS["raw"]))
    assert network.normaliser_source == "dataset raw"


def test_a_cifar_network_without_normaliser_asks_for_one(save, cifar18):
    path = save(cifar18.state_dict())
    with pytest.raises(
        BadInput,
        match=r"cifar_resnet18 holds no normaliser: give mean=, std= in units of \[0, 1\], or the data set it was trained with by dat",
    ):
        load_public(path)
    assert gives(load_public(path, dataset="cifar10"), releases.normalised(cifar18, X, *CIFAR))
    with pytest.raises(BadInput, match=r"dataset='cifar' has no known normaliser; allowed: .*did you mean 'cifar10'\?"):
        load_public(path, dataset="cifar")


def test_robustbench_imagenet(save, imagenet18):
    state = releases.buffers(MEAN, STD, ("normalize.mean", "normalize.std"), (1, 3, 1, 1))
    network = load_public(save({"state_dict": state | releases.prefixed("model.", imagenet18.state_dict())}))
    assert gives(network, releases.normalised(imagenet18, X_LARGE, MEAN, STD), X_LARGE)


def test_an_ensemble_is_a_list_of_files(save):
    theirs = [releases.shaken(releases.MadryCifar(), seed) for seed in range(3)]
    paths = [save({"state_dict": releases.prefixed("module.", net.state_dict())}, f"m{i}.pt") for i, net in enumerate(theirs)]
    network = load_public(paths, dataset="raw")
    mean = torch.stack([releases.normalised(net, X, *NORMALISERS["raw"]).softmax(dim=1) for net in theirs]).mean(dim=0)
    assert gives(network, mean.log())
    assert [one["name"] for one in network.card["files"]] == ["m0.pt", "m1.pt", "m2.pt"]
    digests = [store.sha256_file(path) for path in paths]
    assert load_public(paths, dataset="raw", sha256=digests).card["is_verified"]
    with pytest.raises(BadInput, match="1 sha256 are given for 3 files"):
        load_public(paths, dataset="raw", sha256=digests[0])


# Names and normalisers that mislead


def test_prefixes_are_cut_where_a_key_starts_and_nowhere_else(save, cifar18):
    state = releases.prefixed("module.", cifar18.state_dict())
    state["module.layer1.model.extra.weight"] = torch.zeros(1)
    state["submodule.model.weight"] = torch.zeros(1)
    with pytest.raises(BadInput, match=r"2 unexpected \(layer1\.model\.extra\.weight, submodule\.model\.weight\)$"):
        load_public(save(state), dataset="raw")


def test_missing_unexpected_and_misshapen_tensors_are_named_as_in_the_file(save, cifar18):
    state = cifar18.state_dict()
    del state["layer3.1.bn2.running_mean"]
    state["layer4.1.conv2.weight"] = state["layer4.1.conv2.weight"][:, :1]
    state |= {f"extra{i}": torch.zeros(1) for i in range(7)}
    expected = (
        "is no cifar_resnet18: 1 missing (layer3.1.bn2.running_mean); 7 unexpected (extra0, extra1, extra2, extra3, extra4, ...); "
        "1 of another shape (layer4.1.conv2.weight)"
    )
    with pytest.raises(BadInput, match=re.escape(expected)):
        load_public(save(state), dataset="raw")


def test_files_from_before_batches_were_counted_load(save, cifar18):
    state = {name: t for name, t in cifar18.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert len(state) < len(cifar18.state_dict())
    assert gives(load_public(save(state), dataset="raw"), releases.normalised(cifar18, X, *NORMALISERS["raw"]))


def test_two_normalisers_or_half_of_one_are_refused(save, cifar18):
    double = cifar18.state_dict() | releases.buffers(MEAN, STD, ("mu", "sigma")) | releases.buffers(*CIFAR, ("mean", "std"))
    with pytest.raises(CorruptFile, match="holds 2 normalisers that differ"):
        load_public(save(double))
    assert load_public(save(double), mean=MEAN, std=STD).normaliser_source == "given (mean=, std=)"
    with pytest.raises(BadInput, match=r"1 unexpected \(mu\)"):
        load_public(save(cifar18.state_dict() | {"mu": torch.zeros(3)}), dataset="raw")
    with pytest.raises(CorruptFile, match="mu and sigma are .* expected std above 0"):
        load_public(save(cifar18.state_dict() | releases.buffers(MEAN, (0.0, 1.0, 1.0), ("mu", "sigma"))))


def test_one_name_twice_with_different_values_is_refused(save, cifar18):
    state = cifar18.state_dict() | {"module.linear.bias": torch.ones(10)}
    with pytest.raises(CorruptFile, match=r"holds linear\.bias twice with different values \(once as module\.linear\.bias\)"):
        load_public(save(state), dataset="raw")


def test_another_architecture_than_expected_is_refused(save, cifar18):
    with pytest.raises(BadInput, match=r"architecture='cifar_resnet50' is not what network\.pt holds: .* 'cifar_resnet18'; did you mean"):
        load_public(save(cifar18.state_dict()), "cifar_resnet50", "raw")


def test_what_is_no_known_network_is_refused(save, cifar18):
    with pytest.raises(
        BadInput, match=r"no architecture known here \(its first names: vgg\.0\.weight\).* reprolib\.open_checkpoint\(path, model\)"
    ):
        load_public(save({"vgg.0.weight": torch.zeros(2, 2)}))
    with pytest.raises(CorruptFile, match=r"holds no state dict \(found: epoch, loss\): expected named tensors"):
        load_public(save({"epoch": 3, "loss": {"train": torch.zeros(2)}}))
    with pytest.raises(CorruptFile, match=r"holds no state dict \(found: Tensor\)"):
        load_public(save(torch.zeros(3)))
    headless = {name: t for name, t in cifar18.state_dict().items() if not name.startswith("linear")}
    with pytest.raises(BadInput, match="looks like a known architecture but 'fc.weight' is missing"):
        load_public(save(headless))


# Files that are not what they should be


def test_a_web_page_is_refused_as_one(tmp_path):
    path = tmp_path / "network.pt"
    for page in (b"<!DOCTYPE html><html>Google Drive - Quota exceeded</html>", b"\n \t<html></html>", b"\xef\xbb\xbf<html/>"):
        path.write_bytes(page)
        for allow_pickle in (False, True):
            with pytest.raises(CorruptFile, match="is a web page, HTML: probably a sign-in or quota page saved in place of the file"):
                load_public(path, allow_pickle=allow_pickle)


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("allow_pickle", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(save, cifar18, is_zip, allow_pickle, share):
    path = save(cifar18.state_dict(), _use_new_zipfile_serialization=is_zip)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CorruptFile, match="is truncated or no torch checkpoint|was not read"):
        load_public(path, dataset="raw", allow_pickle=allow_pickle)


@pytest.mark.parametrize("allow_pickle", [True, False])
def test_the_legacy_format_loads(save, cifar18, allow_pickle):
    path = save({"model": releases.madry(cifar18.state_dict(), MEAN, STD)}, _use_new_zipfile_serialization=False)
    assert not path.read_bytes().startswith(b"PK")
    assert gives(load_public(path, allow_pickle=allow_pickle), releases.normalised(cifar18, X, MEAN, STD))


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(MissingData, match=r"nothing\.pt is not there: download it from its publisher"):
        load_public(tmp_path / "nothing.pt")


def test_a_file_with_another_sha256_is_not_opened(save, cifar18):
    path = save(cifar18.state_dict())
    digest = store.sha256_file(path)
    network = load_public(path, dataset="raw", sha256=digest.upper())
    assert network.card["is_verified"]
    assert network.card["files"] == [{"name": "network.pt", "sha256": digest}]
    assert not load_public(path, dataset="raw").card["is_verified"]
    with pytest.raises(CorruptFile, match=f"has sha256 {digest}, expected {'0' * 64}: it is another file or altered, and was not opened"):
        load_public(path, dataset="raw", sha256="0" * 64)


def test_logits_that_are_not_finite_are_refused(save, cifar18):
    state = cifar18.state_dict()
    state["linear.bias"] = torch.tensor([math.nan] + [0.0] * 9)
    with pytest.raises(CorruptFile, match=r"linear\.bias hold values that are not finite"):
        load_public(save(state), dataset="raw")


def test_an_expected_accuracy_must_be_met(save, cifar18):
    x = problems.images(40, 3, 32, 32, seed=1)
    path = save(cifar18.state_dict())
    y = predictions(load_public(path, dataset="raw"), x)
    load_public(path, dataset="raw", accuracy=ExpectedAccuracy(x, y, 0.95, 0.06))
    with pytest.raises(
        CorruptFile, match=r"gets 1\.000 of 40 images right, expected 0\.500 \+- 0\.100: another network or another normaliser"
    ):
        load_public(path, dataset="raw", accuracy=ExpectedAccuracy(x, y, 0.5, 0.1))


def test_half_precision_weights_become_fp32(save, cifar18):
    halved = {name: t.half() if t.is_floating_point() else t for name, t in cifar18.state_dict().items()}
    theirs = releases.MadryCifar()
    theirs.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in halved.items()})
    assert gives(load_public(save(halved), dataset="raw"), releases.normalised(theirs.eval(), X, *NORMALISERS["raw"]))
