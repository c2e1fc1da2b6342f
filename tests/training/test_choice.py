"""Alpha is chosen by rule, on training images that the networks it is chosen by never saw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import problems
import pytest
import torch

from reprolib import data, scales
from reprolib.measures.soft_nearest_neighbor import entanglement
from reprolib.models.layers import features, shrunk
from reprolib.perturb.attacks import predictions
from reprolib.scales import SCALES, Entry
from reprolib.training import choice, zoo
from reprolib.training.choice import choose
from reprolib.training.recipes import recipe

STD = {"accuracy": 0.80, "entanglement": 0.77}


def candidates(*numbers: tuple[float, float]) -> dict[str, dict[str, float]]:
    names = ("snnl_m003", "snnl_m01", "snnl_m03")
    return {name: {"accuracy": a, "entanglement": e} for name, (a, e) in zip(names, numbers, strict=True)}


def test_the_most_accurate_of_those_that_entangle_enough_is_chosen() -> None:
    assert choose(STD, candidates((0.80, 0.81), (0.79, 0.83), (0.75, 0.90))) == "snnl_m01"
    assert choose(STD, candidates((0.78, 0.83), (0.79, 0.85), (0.80, 0.90))) == "snnl_m03"
    assert choose(STD, candidates((0.79, 0.83), (0.79, 0.85), (0.79, 0.90))) == "snnl_m003"
    assert choose(STD, candidates((0.80, 0.81), (0.79, 0.80), (0.75, 0.77))) == ""


def test_the_numbers_are_those_of_whole_batches_and_of_all_images() -> None:
    network, x, y = problems.network(), problems.images(40, 3, 16, 16), torch.arange(40) % 4
    found = choice.measure(network, x, y, batch_size=16)
    shares = [
        entanglement(shrunk(value), y[part]).share
        for part in (slice(0, 16), slice(16, 32))
        for value in features(network, x[part], ["conv1", "conv2"]).values()
    ]
    assert found["entanglement"] == pytest.approx(sum(shares) / 4, rel=1e-6)
    assert found["accuracy"] == pytest.approx((predictions(network, x) == y).float().mean().item())
    assert (found["n"], found["n_batches"]) == (40, 2)


def test_what_is_held_out_is_the_last_tenth_and_no_other_network_is_denied_it() -> None:
    training = data.load("shapetexture_gratings", "train")
    spec = zoo.Spec("snnl_m01_choice", "tinycnn", "shapetexture_gratings", 9, "smoke")
    (trained, _), (held_out, labels) = (f(spec, training, "cpu") for f in (zoo._training_images, zoo._held_out_images))
    assert (len(trained), len(held_out)) == (461, 51)
    assert torch.equal(torch.cat((trained.float() / 255, held_out)), training.x[:512].float() / 255)
    assert torch.equal(labels, training.y[461:512])
    assert len(zoo._training_images(replace(spec, recipe="snnl_m01"), training, "cpu")[0]) == 512


def test_training_tells_the_numbers_and_the_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    names = ("std_choice", "snnl_m01_choice")
    table = tuple(Entry("tinycnn", name, (9,), 0.02) for name in names)
    short = replace(scales.SMOKE.schedule, epochs=1)
    monkeypatch.setitem(SCALES, "smoke", replace(scales.SMOKE, table=table, schedule=short))
    assert choice.lines("smoke") == ["smoke: alpha is chosen when tinycnn-std_choice-s9, tinycnn-snnl_m01_choice-s9 are trained"]
    for name in names:
        zoo.network(name, "tinycnn", "shapetexture_gratings", 9, "smoke")
    card = zoo.card_of(zoo.spec_of("tinycnn-snnl_m01_choice-s9", "smoke"))
    assert card is not None
    assert card["held_out"]["n"] == 51
    assert 0.8 < card["step_cost"] < 20
    assert set(card["training"]["history"][0]["snnl"]) == {"conv1", "conv2"}
    first, second, last = choice.lines("smoke")
    assert first.startswith("smoke: std (alpha 0) on 51 training images held out: accuracy ")
    assert f"snnl_m01 (alpha -0.1) on 51 training images held out: accuracy {card['held_out']['accuracy']:.4f}, entanglement" in second
    assert last.startswith(("smoke: chosen is snnl_m01: accuracy ", "smoke: no alpha raises the entanglement by 0.05"))


@pytest.mark.parametrize("name", ["laptop", "cifar"])
def test_the_roles_obey_the_rule_among_the_committed_candidates(name: str) -> None:
    scale = SCALES[name]
    specs = [zoo.Spec(r, a, d, seed, name) for a, r, seed, d in scale.entries() if recipe(r).held_out]
    cards = {spec.recipe.removesuffix(choice.SUFFIX): zoo.card_of(spec) for spec in specs}
    found = {recipe_id: card["held_out"] for recipe_id, card in cards.items() if card}
    if len(found) < len(specs):
        assert "entangled" not in scale.roles
        pytest.skip(f"alpha of scale {name} is not chosen yet: `reprolib train --scale {name}`")
    chosen = choose(found.pop("std"), found)
    assert scale.roles.get("entangled", "") == chosen
    assert scale.roles.get("disentangled", "") == chosen.replace("_m", "_p")
