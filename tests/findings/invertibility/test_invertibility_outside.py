"""Targets from outside: which images they are, whose reach chooses their tau, and what they are held against."""

from dataclasses import replace

import pandas as pd
import problems
import pytest
import torch
from inverses import asked, carded, of, planted, planted_set

from reprolib import data
from reprolib.data.images import images as labelled
from reprolib.errors import MissingData
from reprolib.findings.invertibility import inversions, outside
from reprolib.findings.invertibility.inverting import TAUS, Eyes, make_task
from reprolib.findings.invertibility.outside_sets import outside_sets
from reprolib.judging.tidy import rounded


@pytest.fixture(scope="module")
def task():
    return make_task(planted_set(), 10, 1)


@pytest.fixture(scope="module")
def eyes():
    return Eyes({"standard": problems.network(seed=5), "robust": problems.network(seed=6)})


SETS = {"deciding": problems.images(10, 3, 16, 16, seed=20), "textures": problems.images(10, 3, 16, 16, seed=21)}
NETS = {"standard": [carded(0)], "robust": [carded(0, "l2")], "gauss": [carded(0, "gauss")], "untrained": [carded(0, "untrained")]}


def inside_rows(nets, value=0.7):
    """Each network's rows of INV-2 on targets of the test set, at every tau; another value for the second start."""
    return pd.DataFrame([
        {"claim": "INV-2", "quantity": f"distance_ratio@{tau:g}", "unit_2": start, "network": network.sha256[:12], "value": worth + 0.1 * unit}
        for networks in nets.values() for network in networks for tau in TAUS
        for start, worth in (("noise_0", value), ("noise_1", 9.0)) for unit in range(2)
    ], columns=["claim", "quantity", "unit_2", "network", "value"])  # fmt: skip


def measured(monkeypatch, task, eyes, reached, nets=NETS, sets=SETS, **more):
    """INV-5 with planted inverses: reached[role] targets of ten at taus above .1, one fewer at .1, none below."""

    def invert(role, network, of_set, *given, **keywords):
        one = planted(of_set, network, role, [True] * 10)
        run = one.runs["noise_0"]
        hit = {tau: torch.arange(10) < max(0, reached[role] - (tau == 0.1)) * (tau > 0.05) for tau in TAUS}
        at = {tau: torch.where(hit[tau].view(-1, 1, 1, 1), run.at[tau], of_set.starts["noise_0"]) for tau in TAUS}
        return replace(one, runs={"noise_0": replace(run, reached=hit, at=at)})

    monkeypatch.setattr(inversions, "invert_task", invert)
    return outside.of(asked(nets, eyes, task, outside=sets, rows=inside_rows(nets), **more))


def test_held_out_images_are_shapes_and_textures_of_no_training_set_in_the_scales_own_size():
    sets = outside_sets("smoke", data.load("shapetexture_gratings", "test"), 8)
    assert list(sets) == ["held_out"]
    assert sets["held_out"].shape == (8, 3, 16, 16)
    assert 0 <= sets["held_out"].min() < sets["held_out"].max() <= 1
    world = data.shapetexture.world_of("shapetexture_gratings", "test")
    batch = data.shapetexture.render(world, range(8), "held_out")
    assert torch.equal(batch.image.float() / 255, sets["held_out"])
    assert not {*batch.shape_names, *batch.texture_names} & {*world.shapes, *world.textures}
    pairs = set(zip(batch.shape.tolist(), batch.texture.tolist(), strict=True))
    assert len(pairs) == 4


def test_sets_that_are_not_here_are_left_out_with_a_line_and_without_the_deciding_one_there_is_none(monkeypatch, capsys):
    absent = set()

    def load(name, split):
        assert split == "test"
        if name in absent:
            raise MissingData(f"{name} is nowhere")
        grey = 1 if name == "fashion_mnist" else 3
        y = torch.arange(40) // 10
        return labelled((problems.images(40, grey, 8, 8) * 255).to(torch.uint8), y, ("a", "b", "c", "d"), name)

    monkeypatch.setattr("reprolib.findings.invertibility.outside_sets.data.load", load)
    everything = outside_sets("cifar", planted_set(), 30)
    assert {name: tuple(x.shape) for name, x in everything.items()} == {
        "tiny_imagenet_20": (30, 3, 16, 16), "textures": (20, 3, 16, 16), "fashion": (20, 3, 16, 16),
    }  # fmt: skip
    clothes = everything["fashion"]
    assert torch.equal(clothes[:, 0], clothes[:, 1])
    assert capsys.readouterr().out == ""
    absent.add("textures")
    assert list(outside_sets("cifar", planted_set(), 30)) == ["tiny_imagenet_20", "fashion"]
    assert capsys.readouterr().out == "textures is left out of the targets from outside: textures is nowhere\n"
    absent.add("tiny_imagenet_20")
    assert outside_sets("cifar", planted_set(), 30) == {}


def test_real_sets_from_outside_are_images_of_every_one_of_their_classes():
    try:
        photographs = data.load("tiny_imagenet_20", "test")
    except MissingData as error:
        pytest.skip(str(error))
    sets = outside_sets("cifar", planted_set(side=32), 64)
    assert next(iter(sets)) == "tiny_imagenet_20"
    assert sets["tiny_imagenet_20"].shape == (64, 3, 32, 32)
    places = {tuple(x.flatten().tolist()): y for x, y in zip(photographs.x, photographs.y.tolist(), strict=True)}
    classes = [places[tuple((x * 255).round().to(torch.uint8).flatten().tolist())] for x in sets["tiny_imagenet_20"]]
    assert classes[:40] == [*range(20)] * 2


def test_the_tau_is_chosen_by_the_standard_and_robust_networks_reach_of_the_deciding_set(monkeypatch, task, eyes):
    for reached, tau in (
        ({"standard": 10, "robust": 10, "gauss": 0}, 0.1),  # nine of ten at .1; the control has no say
        ({"standard": 10, "robust": 9, "gauss": 10}, 0.2),
        ({"standard": 8, "robust": 10, "gauss": 10}, 0.5),
    ):
        assert measured(monkeypatch, task, eyes, reached).pictures["tau"] == tau
    assert measured(monkeypatch, task, eyes, reached, tau=0.35).pictures["tau"] == 0.35


def test_targets_that_were_not_reached_stay_with_a_ratio_of_one_in_every_quantity(monkeypatch, task, eyes):
    rows = measured(monkeypatch, task, eyes, {"standard": 10, "robust": 9, "gauss": 3}).rows
    assert len(rounded(rows)) == len(rows)
    for quantity in ("distance_ratio", "distance_ratio_robust_judge", "distance_ratio@textures"):
        few, all_ = of(rows, "INV-5", quantity, "gauss"), of(rows, "INV-5", quantity)
        assert few["unit"].tolist() == all_["unit"].tolist() == [str(i) for i in range(10)]
        assert few["reached"].tolist() == [True] * 3 + [False] * 7
        assert few["value"].to_numpy()[3:] == pytest.approx(1)
        assert few["value"].to_numpy()[:3] == pytest.approx(all_["value"].to_numpy()[:3])
        assert all_["value"].max() < 1
    assert of(rows, "INV-5", "reach@0.2", "gauss")["value"].mean() == 0.3


def test_the_gap_is_a_targets_ratio_minus_the_networks_mean_on_its_own_test_set(monkeypatch, task, eyes):
    rows = measured(monkeypatch, task, eyes, {"standard": 10, "robust": 10, "gauss": 10}).rows
    ratio, gap = (of(rows, "INV-5", quantity)["value"].to_numpy() for quantity in ("distance_ratio", "gap_in_distribution"))
    assert gap == pytest.approx(ratio - 0.75)  # of .7 and .8, from the same noise; the other start's 9 does not count


def test_only_the_compared_networks_and_their_controls_are_asked_and_missing_roles_are_absent(monkeypatch, task, eyes):
    everyone = dict.fromkeys(("standard", "robust", "gauss", "untrained"), 10)
    assert set(measured(monkeypatch, task, eyes, everyone).rows["arm"]) == {"standard", "robust", "gauss"}
    only = {"robust": NETS["robust"], "standard": []}
    assert set(measured(monkeypatch, task, eyes, everyone, nets=only).rows["arm"]) == {"robust"}
    assert measured(monkeypatch, task, eyes, everyone, nets={}).rows.empty
    assert measured(monkeypatch, task, eyes, everyone, sets={}).rows.empty


def test_pictures_show_the_inverse_and_the_last_iterate_where_there_is_none(monkeypatch, task, eyes):
    pictures = measured(monkeypatch, task, eyes, {"standard": 10, "robust": 9, "gauss": 2}).pictures
    assert set(pictures["targets"]) == set(pictures["inverses"]) == set(SETS)
    assert torch.equal(pictures["targets"]["textures"], SETS["textures"][: outside.N_PICTURES])
    found = pictures["inverses"]["deciding"]
    assert set(found) == {"standard", "robust", "gauss"}
    start = task.starts["noise_0"][: outside.N_PICTURES]
    assert torch.equal(found["gauss"][2:], start[2:])  # the planted last iterate
    assert torch.equal(found["gauss"][:2], found["standard"][:2])


def test_real_inversions_of_two_sets_are_kept_apart(repository, task, eyes):
    """Measured, not planted: same network, starts and settings; only the targets differ."""
    nets = {"standard": [carded(0)], "robust": [carded(0, "l2")]}
    pictures = outside.of(asked(nets, eyes, task, outside=SETS, rows=inside_rows(nets), steps=5, step=0.2, pool=2)).pictures["inverses"]
    assert not torch.equal(pictures["deciding"]["standard"], pictures["textures"]["standard"])
    assert torch.equal(pictures["deciding"]["standard"], pictures["deciding"]["robust"])  # planted with equal weights
