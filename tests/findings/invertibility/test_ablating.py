"""One knob at a time: what is turned, what is told, and that nothing is measured twice."""

from dataclasses import asdict, replace

import problems
import pytest
import torch
from inverses import asked

from reprolib.data.images import images as labelled
from reprolib.errors import BadInput
from reprolib.findings.invertibility import ablating
from reprolib.findings.invertibility.ablating import layer_variants, variants
from reprolib.findings.invertibility.inverting import Eyes, make_task
from reprolib.judging.tidy import rounded
from reprolib.measures.perceptual import random_pair_median, relative_distance
from reprolib.models.layers import representation

NAMES = ["reference", "fake_relu off", "best iterate", "image start", "step x2", "step x0.5", "steps x2", "fourier"]
LAYERS = ["layer:conv1", "layer:conv2", "layer:conv3"]
SETTINGS = {"steps": 12, "step": 0.3, "pool": 2, "n_ablated": 3}


def carded(seed: int = 0, recipe: str = "std", network=None):
    network = problems.network(seed=seed) if network is None else network
    network.sha256 = f"{recipe}{seed}".encode().hex().ljust(64, "0")
    network.card = {
        "name": f"tinycnn-{recipe}-s{seed}",
        "description": {"recipe": {"id": recipe}, "architecture": "tinycnn", "seed": seed},
    }
    return network


@pytest.fixture(scope="module")
def task():
    x = (problems.images(64, 3, 16, 16) * 255).round().to(torch.uint8)
    return make_task(labelled(x, torch.arange(64) % 4, ("a", "b", "c", "d"), "planted"), 4, 1)


@pytest.fixture(scope="module")
def eyes():
    return Eyes({"standard": problems.network(seed=5)})


@pytest.fixture(scope="module")
def nets():
    return {"standard": [carded(0), carded(1)], "robust": [carded(2, "l2"), carded(3, "l2")], "untrained": [carded(4, "untrained")]}


@pytest.fixture(scope="module")
def ablated(own_cache, nets, task, eyes):
    return measure(nets, task, eyes, **SETTINGS)


def measure(nets, task, eyes, **knobs):
    return ablating.of(asked(nets, eyes, task, **knobs))


def of(rows, quantity, variant, arm="standard"):
    """The values of one variant in the order of the targets."""
    found = rows[(rows["quantity"] == quantity) & (rows["unit_2"] == variant) & (rows["arm"] == arm)]
    return torch.tensor(found["value"].to_numpy())


def test_every_variant_differs_from_the_reference_in_one_knob():
    """Traps 7 and 8 among them: the straight-through ReLU, and the doubled budget."""
    ways = {name: asdict(way) for name, way in variants(150, 0.1, 4).items()}
    assert list(ways) == NAMES
    turned = {name: {key: way[key] for key in way if way[key] != ways["reference"][key]} for name, way in ways.items()}
    assert turned == {
        "reference": {}, "fake_relu off": {"straight_through": False}, "best iterate": {"keep": "best"}, "image start": {"start": "image"},
        "step x2": {"step": 0.2}, "step x0.5": {"step": 0.05}, "steps x2": {"steps": 300}, "fourier": {"fourier": True},
    }  # fmt: skip


def test_the_sweep_takes_every_map_in_the_order_of_depth_and_pools_no_map_finer_than_it_is():
    reference = variants(150, 0.1, 8)["reference"]
    found = layer_variants(problems.network(), reference, 16)
    assert list(found) == LAYERS
    assert [way.pool for way in found.values()] == [8, 8, 4]
    assert found["layer:conv3"] == replace(reference, pool=4)
    assert [way.layer for way in found.values()] == ["conv1", "conv2", None]


def test_maps_within_residual_blocks_can_be_left_out():
    reference, network = variants(150, 0.1, 4)["reference"], problems.network("resnet8")
    found = layer_variants(network, reference, 16, within_blocks=False)
    assert list(found) == ["layer:stem", *(f"layer:stage{s}.block1.relu2" for s in (1, 2, 3))]
    assert found.items() <= layer_variants(network, reference, 16).items()


def test_rows_hold_every_variant_arm_quantity_and_target_of_the_first_networks(ablated, nets, task):
    rows = rounded(ablated.rows)
    assert len(rows) == len(ablated.rows) == 2 * (8 + 3) * 3 * 3
    assert set(rows["claim"]) == {"ablation"}
    assert set(rows["quantity"]) == {"distance_ratio", "pixel_correlation", "d_rel"}
    assert set(rows["unit_2"]) == {*NAMES, *LAYERS}
    assert set(rows["unit"]) == {str(i) for i in task.ids[:3]}
    assert set(rows["network"]) == {nets[arm][0].sha256[:12] for arm in ("standard", "robust")}
    assert set(ablated.pictures) == {"targets", *NAMES, *LAYERS}
    assert torch.equal(ablated.pictures["targets"], task.targets[:3])
    assert ablated.pictures["fourier"]["robust"].shape == (3, 3, 16, 16)


def test_the_reference_is_told_in_units_of_random_pairs_and_of_its_start(ablated, nets, task, eyes):
    network, x = nets["standard"][0], ablated.pictures["reference"]["standard"]
    with torch.no_grad():
        codes = [representation(network, images, 2) for images in (x, task.targets[:3], task.typical)]
    d_rel = relative_distance(codes[0], codes[1]) / random_pair_median(codes[2], generator=problems.generator())
    torch.testing.assert_close(of(ablated.rows, "d_rel", "reference"), d_rel.double(), rtol=1e-3, atol=1e-5)
    ratio = eyes.distance("standard", x, task.targets[:3]) / eyes.distance("standard", task.starts["noise_0"][:3], task.targets[:3])
    torch.testing.assert_close(of(ablated.rows, "distance_ratio", "reference"), ratio.double(), rtol=1e-4, atol=1e-6)


def test_an_inner_layer_is_what_is_inverted_there(ablated, nets, task):
    network, x = nets["robust"][0], ablated.pictures["layer:conv1"]["robust"]
    with torch.no_grad():
        codes = [representation(network, images, 2, "conv1") for images in (x, task.targets[:3], task.typical)]
    d_rel = relative_distance(codes[0], codes[1]) / random_pair_median(codes[2], generator=problems.generator())
    torch.testing.assert_close(of(ablated.rows, "d_rel", "layer:conv1", "robust"), d_rel.double(), rtol=1e-3, atol=1e-5)


def test_the_last_layer_is_the_reference_and_every_other_variant_is_another_picture(ablated):
    pictures = ablated.pictures
    for arm in ("standard", "robust"):
        assert torch.equal(pictures["layer:conv3"][arm], pictures["reference"][arm])
        for name in (*NAMES[1:], *LAYERS[:2]):
            same = torch.equal(pictures[name][arm], pictures["reference"][arm])
            assert same == (
                name == "best iterate" and torch.equal(of(ablated.rows, "d_rel", name, arm), of(ablated.rows, "d_rel", "reference", arm))
            )


def test_a_longer_way_and_the_best_iterate_end_no_further_off(ablated):
    for arm in ("standard", "robust"):
        reference = of(ablated.rows, "d_rel", "reference", arm)
        assert (of(ablated.rows, "d_rel", "best iterate", arm) <= reference + 1e-6).all()
        assert of(ablated.rows, "d_rel", "steps x2", arm).median() < reference.median()


def test_without_the_straight_through_relu_a_dead_network_stays_at_its_start(task, eyes):
    """Trap 7: the variant is the only one that stands still where the last units are off at the start."""
    dead = {arm: [carded(9, recipe, problems.dead_until_bright())] for arm, recipe in (("standard", "dead"), ("robust", "dead_l2"))}
    white = torch.ones_like(task.targets)
    dark = replace(task, targets=white, starts={name: torch.zeros_like(white) for name in task.starts}, data_sha256="dark")
    found = measure(dead, dark, eyes, steps=6, step=0.5, pool=1, n_ablated=2)
    assert (found.pictures["fake_relu off"]["standard"] == 0).all()
    assert (of(found.rows, "distance_ratio", "fake_relu off") == 1).all()
    for name in NAMES:
        assert (found.pictures[name]["standard"].max() > 0.001) == (name != "fake_relu off"), name


def test_every_way_is_measured_once_and_then_read(nets, task, eyes, monkeypatch, tmp_path):
    monkeypatch.setenv("REPROLIB_CACHE", str(tmp_path))
    told, runs, minimise = [], [], ablating.minimise
    monkeypatch.setattr(ablating, "minimise", lambda *given: runs.append(given) or minimise(*given))
    first = measure(nets, task, eyes, steps=2, step=0.3, pool=2, n_ablated=2, report=told.append)
    assert len(runs) == 2 * (8 + 3 - 1 - 1)  # the last layer is the reference, and Fourier has a loop of its own
    assert told == ["tinycnn-std-s0: inverting 2 targets in 11 ways", "tinycnn-l2-s2: inverting 2 targets in 11 ways"]
    monkeypatch.setattr(ablating, "minimise", lambda *given: pytest.fail("measured again"))
    monkeypatch.setattr(ablating, "invert_fourier", lambda *given: pytest.fail("measured again"))
    again = measure(nets, task, eyes, steps=2, step=0.3, pool=2, n_ablated=2, report=told.append)
    assert again.rows.equals(first.rows)
    assert len(told) == 2


def test_a_pool_finer_than_the_last_map_is_refused(nets, task, eyes):
    with pytest.raises(BadInput, match="pool=8 is larger than the 4 x 4 map of conv3"):
        measure(nets, task, eyes, steps=2, step=0.3, pool=8, n_ablated=2)
