"""What the converter writes, and what our own training keeps, loads with the same logits, card and source."""

import json

import problems
import pytest
import releases
import torch
from releases import X, gives

from reprolib import store
from reprolib.errors import BadInput, CorruptFile, MissingData
from reprolib.models.checkpoints import convert, load_public
from reprolib.models.networks import build
from reprolib.training import zoo
from reprolib.training.recipes import recipe
from reprolib.training.zoo import weights_sha256

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)


def test_converted_networks_load_with_the_same_logits_card_and_source(save, tmp_path, cifar18):
    path = save({"model": releases.madry(cifar18.state_dict(), MEAN, STD)})
    converted = convert(path, tmp_path / "safe" / "madry.safetensors", sha256=store.sha256_file(path))
    original, network = load_public(path), load_public(converted)
    assert gives(network, releases.normalised(cifar18, X, MEAN, STD))
    assert (network.sha256, network.normaliser_source) == (original.sha256, original.normaliser_source)
    assert network.card["files"] == [{"name": "network.pt", "sha256": store.sha256_file(path)}]
    assert network.card["is_verified"]
    assert json.loads(converted.with_suffix(".json").read_text()) == network.card
    again = convert(converted, tmp_path / "again.safetensors")
    assert load_public(again).sha256 == network.sha256


def test_converted_ensembles_load_with_the_same_logits(save, tmp_path):
    theirs = [releases.shaken(releases.MadryCifar(width=2 + seed), seed) for seed in range(2)]
    paths = [save(net.state_dict(), f"{i}.pt") for i, net in enumerate(theirs)]
    network = load_public(convert(paths, tmp_path / "both.safetensors", dataset="cifar10"))
    with torch.no_grad():
        assert gives(network, load_public(paths, dataset="cifar10")(X))
    assert network.architecture == "cifar_resnet18+cifar_resnet18"


def test_the_output_of_a_conversion_must_be_named_safetensors(save, cifar18, tmp_path):
    with pytest.raises(BadInput, match=r"must end in \.safetensors; did you mean '.*out\.safetensors'\?"):
        convert(save(cifar18.state_dict()), tmp_path / "out.pt", dataset="raw")


@pytest.mark.parametrize("damage", ["tensors", "card", "another card", "no card", "another network"])
def test_a_damaged_conversion_is_refused(save, cifar18, tmp_path, damage):
    path = convert(save(cifar18.state_dict()), tmp_path / "net.safetensors", dataset="raw")
    card = path.with_suffix(".json")
    if damage == "tensors":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "no card":
        card.unlink()
    elif damage == "another network":
        tensors, metadata = store.read_safetensors(path)
        store.write_safetensors(path, tensors | {"linear.bias": tensors["linear.bias"] + 1}, metadata)
    else:
        card.write_text('{"format": ' if damage == "card" else '{"format": "something else"}')
    with pytest.raises(MissingData if damage == "no card" else CorruptFile, match=r"net\.(safetensors|json)"):
        load_public(path)


def test_networks_of_our_own_training_load_by_their_card(tmp_path):
    trained = problems.network("tinycnn")
    halved = {name: t.bfloat16() if t.dim() > 1 else t for name, t in trained.state_dict().items()}
    trained.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in halved.items()})
    path = tmp_path / "tinycnn-l2_05-s0-0123.safetensors"
    card = {"description": {"architecture": "tinycnn"}, "sha256": weights_sha256(trained)}  # as of before the image size was kept
    store.write_network(path, halved, card, {})
    network = load_public(path)
    with torch.no_grad():
        assert gives(network, trained(X))
    assert network.normaliser_source == "file (normaliser)"
    assert network.card["description"] == {"architecture": "tinycnn"}
    assert load_public(convert(path, tmp_path / "again.safetensors")).sha256 == weights_sha256(trained)


def test_networks_of_our_own_with_one_channel_load(tmp_path):
    trained = build("tinycnn", 10, (0.3,), (0.4,), seed=0).eval()
    card = {"description": {"architecture": "tinycnn"}, "image_px": 28, "sha256": weights_sha256(trained)}
    store.write_network(tmp_path / "grey.safetensors", trained.state_dict(), card, {})
    x = problems.images(2, 1, 28, 28)
    with torch.no_grad():
        assert gives(load_public(tmp_path / "grey.safetensors"), trained(x), x)


def test_a_network_that_was_trained_here_loads_as_the_zoo_loads_it():
    """Its BatchNorms have counted batches, and the counts are part of its sha256."""
    spec = zoo.Spec(recipe("std").id, "tinycnn", "cifar10", 0, "cifar")
    assert load_public(spec.path).sha256 == zoo.load(spec).sha256
