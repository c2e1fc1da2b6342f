"""Transfer, accuracy and masking on planted networks: twins that are one function, one that hides its gradients, one that nothing fools."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from inverses import planted_set
from layers import carded

from reprolib import parameters
from reprolib.data.images import images as labelled
from reprolib.errors import BadInput
from reprolib.findings.entanglement import accuracy, robustness, transfer
from reprolib.judging.evidence import Evidence
from reprolib.judging.ledger import load_claims
from reprolib.judging.tidy import rounded
from reprolib.models.networks import MINE, weights_sha256
from reprolib.perturb.attacks import predictions
from reprolib.registry import judging

N = 48


# --- the two questions, as the notebook asks them


def is_correct(network, images):
    """Whether the network gives each image its own class, (n,)."""
    return predictions(network, images.x) == images.y


def transferred(moved, networks):
    """Whether each perturbation fools each of the other networks too, (n, networks)."""
    return torch.stack([predictions(network, moved.x) != moved.y for network in networks], dim=1)


def changed(network, seed, recipe, change=None):
    """A copy with a card and a hash of its own, after a change."""
    made = copy.deepcopy(network)
    described = {**network.card["description"], "seed": seed, "recipe": {"id": recipe}}
    made.card = {**network.card, "name": f"{recipe}-{seed}", "description": described}
    with torch.no_grad():
        made.linear.bias += 1e-6 * (1 + seed) * (1 + len(recipe))  # the same function, and another hash
        if change is not None:
            change(made)
    made.sha256 = weights_sha256(made)
    return made


def hide(network):
    """Logits so large that the gradient of the cross-entropy is 0: the same classes, and an attack that does not move."""
    network.linear.weight *= 1e6
    network.linear.bias *= 1e6


def never(network):
    """One class whatever is shown."""
    network.linear.weight *= 0
    network.linear.bias[:] = torch.tensor([9.0, 0, 0, 0])


def lean(network):
    """Another function: classes 0 and 1 are given more often."""
    network.linear.bias += torch.tensor([0.4, 0.4, 0, 0])


@pytest.fixture(scope="module")
def base():
    """A network that gives all four classes."""
    network = carded(0)
    x = planted_set(n=N).x.float() / 255
    with torch.no_grad():
        network.linear.bias -= network(x).mean(dim=0)
        network.linear.weight *= 20
        network.linear.bias *= 20
    return network


@pytest.fixture(scope="module")
def seen(base):
    """Images labelled as the base network answers, so that it has all of them right."""
    drawn = planted_set(n=N)
    y = predictions(base, drawn.x.float() / 255)
    return labelled(drawn.x, y, drawn.classes, "planted")


def study_of(images, n_attacked=20, **turned):
    settings = parameters.validate("entanglement", {"scale": "smoke"})
    settings = replace(settings, values={**settings.values, "n_attacked": n_attacked, "attack_steps": 4}, device="cpu")
    given = {
        "settings": settings, "can_measure": True, "only_mine": False, "device": "cpu", "report": lambda line: None,
        "each": lambda nets: ((role, one) for role, ones in nets.items() for one in ones), "images": lambda split: images,
        "found": lambda specs: [], "first": lambda role: None, "rows": pd.DataFrame(),
    }  # fmt: skip
    return SimpleNamespace(**(given | turned))


@pytest.fixture(scope="module")
def twins(base):
    """Two seeds of each arm, all one function."""
    return {arm: [changed(base, seed, name) for seed in (0, 1)] for arm, name in (("standard", "std"), ("entangled", "snnl_m003"))}


@pytest.fixture(scope="module")
def rows(seen, twins):
    return transfer.transfers(study_of(seen), twins, transferred)


def of(rows, quantity, **where):
    kept = rows[rows["quantity"] == quantity]
    for column, value in where.items():
        kept = kept[kept[column] == value]
    return kept


# --- transfer


def test_what_fools_a_network_fools_its_twins_and_nothing_else_is_counted(rows):
    made = of(rows, "transferred")
    assert made["reached"].any()
    assert (made["value"] == made["reached"]).all()  # twins are one function: fooled just where the network itself is
    for (arm, seed), of_source in made.groupby(["arm", "seed"]):
        assert set(of_source["unit_2"]) == {f"standard:{1 - seed}", f"entangled:{1 - seed}"}
        assert of(rows, "white_box", arm=arm, seed=seed)["value"].item() == pytest.approx(of_source["reached"].mean(), abs=1e-3)


def test_the_radius_is_the_one_of_80_per_cent_on_images_apart(rows, seen, twins):
    study = study_of(seen)
    eps = of(rows, "eps")["value"]
    assert len(eps) == 4
    found = transfer.radius_of(study, twins["standard"][0], transfer.SUCCESS)
    assert eps.tolist() == pytest.approx([found.eps] * 4, rel=1e-2)
    assert found.n == N // 4 == len(seen.x) - transfer.n_before(study)
    assert max(of(rows, "transferred")["unit"].astype(int)) < transfer.n_before(study)
    moved = transfer.attacked(study, twins["standard"][0], accuracy.shown(study, range(4)), found.eps)
    distance = (moved.x - accuracy.shown(study, range(4)).x).flatten(1).norm(dim=1)
    assert distance.max() <= found.eps * (1 + 1e-4)
    assert distance.min() > 0


def test_images_are_the_first_that_all_networks_have_right(seen, twins):
    y = seen.y.clone()
    y[[0, 3]] = (y[[0, 3]] + 1) % 4
    study = study_of(labelled(seen.x, y, seen.classes, "planted"), n_attacked=5)
    assert transfer.common(study, twins).numbers == (1, 2, 4, 5, 6)
    one = changed(twins["standard"][0], 2, "std", lean)
    right = predictions(one, seen.x.float() / 255) == seen.y
    assert 0 < right[:5].sum() < 5
    found = transfer.common(study_of(seen, n_attacked=5), {"standard": [*twins["standard"], one]})
    assert list(found.numbers) == [k for k in range(transfer.POOL * 5) if right[k]][:5]


def test_a_network_that_gives_one_class_is_fooled_by_nothing(seen, twins):
    stone = changed(twins["standard"][0], 1, "std", never)
    found = transfer.transfers(study_of(seen), {"standard": [twins["standard"][0], stone]}, transferred)
    to_stone = of(found, "transferred", unit_2="standard:1")
    assert to_stone["reached"].any()
    assert not to_stone["value"].any()
    assert not of(found, "transferred", unit_2="standard:0")["reached"].any()


def test_the_rates_are_judged_in_pairs_of_both_directions(rows):
    contrast = load_claims("entanglement")["ENT-6"].contrast
    found = Evidence(rounded(rows), "smoke").effect(contrast)
    assert found.estimate == 0
    assert found.networks == {
        "within standard": {"standard 0 and standard 1": 1.0},
        "within entangled": {"entangled 0 and entangled 1": 1.0},
    }


def test_the_readers_network_is_a_source_alone_and_changes_nothing_for_others(seen, twins, rows):
    mine = changed(twins["standard"][0], 0, "std", lean)
    mine.has_classes = True
    found = transfer.transfers(study_of(seen), {**twins, MINE: [mine]}, transferred)
    own = found[found["arm"] == MINE]
    assert set(of(own, "transferred")["unit_2"]) == {"standard:0", "standard:1", "entangled:0", "entangled:1"}
    right = predictions(mine, seen.x.float() / 255) == seen.y
    reached = of(own, "transferred", reached=True)["unit"].astype(int)
    assert all(right[k] for k in reached)
    pd.testing.assert_frame_equal(found[found["arm"] != MINE].reset_index(drop=True), rows)
    mine.has_classes = False
    assert MINE not in set(transfer.transfers(study_of(seen), {**twins, MINE: [mine]}, transferred)["arm"])


def test_alone_it_is_shown_the_committed_images_and_the_first_network_of_each_arm(seen, twins, rows):
    mine = changed(twins["standard"][0], 0, "std")
    study = study_of(seen, only_mine=True, rows=rows, first=lambda role: twins[role][0])
    found = transfer.transfers(study, {MINE: [mine]}, transferred)
    assert set(found["arm"]) == {MINE}
    assert set(of(found, "transferred")["unit"]) == set(of(rows, "transferred")["unit"])
    assert set(of(found, "transferred")["unit_2"]) == {"standard:0", "entangled:0"}


def test_what_cannot_be_measured_is_said(seen, twins):
    study = study_of(labelled(seen.x, (seen.y + 1) % 4, seen.classes, "planted"))
    with pytest.raises(BadInput, match="no test image is right in every network"):
        transfer.transfers(study, twins, transferred)
    with pytest.raises(BadInput, match=r"gives shape \(20,\) for 20 images and 2 networks"):
        transfer.transfers(study_of(seen), twins, lambda moved, networks: predictions(networks[0], moved.x) != moved.y)
    with pytest.raises(BadInput, match=r"gives shape \(48, 4\) for 48 images"):
        accuracy.correct(study_of(seen), twins, lambda network, images: network(images.x))
    assert transfer.transfers(study_of(seen, can_measure=False), twins, transferred).empty


# --- accuracy, and what cards tell


def test_every_test_image_has_a_row_and_only_the_arms_of_the_claims(seen, twins):
    y = seen.y.clone()
    y[[2, 40]] = (y[[2, 40]] + 1) % 4
    found = accuracy.correct(study_of(labelled(seen.x, y, seen.classes, "planted")), {**twins, "robust": twins["standard"]}, is_correct)
    assert set(found["arm"]) == {"standard", "entangled"}
    for _, of_network in found.groupby("network"):
        assert of_network["unit"].tolist() == [f"{k:05d}" for k in range(N)]
        assert [k for k, value in enumerate(of_network["value"]) if not value] == [2, 40]


def test_cards_tell_the_cost_of_a_step_how_often_layers_saturate_and_whom_alpha_was_chosen_by(seen, twins, base):
    taught = changed(base, 0, "snnl_m003")
    epochs = [{"snnl": {"conv1": {"share": 0.9, "at_bound": 0.5}, "conv2": {"share": 0.9, "at_bound": at}}} for at in (0.0, 0.5)]
    taught.card |= {"step_cost": 1.5, "training": {"precision": "fp32", "history": epochs}}
    chosen = [changed(base, 9, name) for name in ("std_choice", "snnl_m01_choice")]
    for network in chosen:
        network.card |= {"clean": {"value": 0.8}, "adversarial": [{"value": 0.25}]}
    study = study_of(seen, found=lambda specs: chosen)
    found = accuracy.costs(study, {"standard": twins["standard"], "entangled": [taught]})
    assert of(found, "step_cost")[["arm", "value"]].to_numpy().tolist() == [["entangled", 1.5]]
    assert of(found, "at_bound")[["unit", "unit_2", "value"]].to_numpy().tolist() == [["conv1", "00", 0.5], ["conv2", "01", 0.25]]
    assert of(found, "choice_correct")[["arm", "recipe"]].to_numpy().tolist() == [
        ["standard", "std_choice"],
        ["entangled", "snnl_m01_choice"],
    ]
    assert set(of(found, "choice_adversarial_correct")["value"]) == {0.25}
    assert accuracy.costs(study_of(seen, only_mine=True), {MINE: [taught]}).empty


# --- under attack


@pytest.fixture(scope="module")
def attacked_rows(seen, twins):
    return robustness.adversarial(study_of(seen, n_attacked=24), {**twins, "robust": twins["standard"][:1]}, is_correct)


def test_accuracy_is_what_the_question_says_of_moved_images_at_two_radii(attacked_rows, seen, twins):
    study, network = study_of(seen, n_attacked=24), twins["entangled"][1]
    half = transfer.radius_of(study, twins["standard"][0], 0.5)
    assert half.reached
    for unit, quantity in (("main", "adversarial_correct"), ("half", "adversarial_correct@half")):
        eps = of(attacked_rows, "eps", unit=unit)["value"]
        assert set(eps) == {study.settings.scale.eps} if unit == "main" else eps.tolist() == pytest.approx([half.eps] * len(eps), rel=1e-2)
        images = accuracy.shown(study, range(24))
        wanted = is_correct(network, transfer.attacked(study, network, images, eps.iloc[0]))
        assert of(attacked_rows, quantity, arm="entangled", seed=1)["value"].tolist() == wanted.double().tolist()
    assert set(of(attacked_rows, "adversarial_correct")["arm"]) == {"standard", "entangled", "robust"}
    assert set(of(attacked_rows, "adversarial_correct@half")["arm"]) == {"standard", "entangled"}


def masking_of(rows):
    claim = load_claims("entanglement")["ENT-11"]
    return judging("entanglement").masking(claim, Evidence(rounded(rows), "smoke"))


def test_twins_pass_and_a_network_that_hides_its_gradients_is_found_out(attacked_rows, seen, twins):
    kinds = [f"masking_{kind}" for kind in ("white_box", "noise", "more_steps", "transfer")]
    for kind in kinds:
        assert len(of(attacked_rows, kind)) == 2 * 4  # radii, networks
    white, longer = (of(attacked_rows, kind)["value"].to_numpy() for kind in (kinds[0], kinds[2]))
    assert (longer <= white).all()
    hidden = changed(twins["entangled"][0], 1, "snnl_m003", hide)
    found = robustness.adversarial(study_of(seen, n_attacked=24), {**twins, "entangled": [hidden]}, is_correct)
    own, others = (of(found, kind, arm="entangled", unit="half")["value"].item() for kind in (kinds[0], kinds[3]))
    assert own == 1
    assert others < 0.8
    assert masking_of(found).state == "failed"
    assert "transfer beats the attack on" in masking_of(found).why


def test_the_readers_network_is_attacked_at_the_committed_radii(attacked_rows, seen, twins):
    mine = changed(twins["standard"][0], 0, "std")
    study = study_of(seen, n_attacked=24, only_mine=True, rows=attacked_rows)
    found = robustness.adversarial(study, {MINE: [mine]}, is_correct)
    assert set(found["arm"]) == {MINE}
    for unit in ("main", "half"):
        assert of(found, "eps", unit=unit)["value"].item() == of(attacked_rows, "eps", unit=unit)["value"].iloc[0]
    nothing_committed = study_of(seen, only_mine=True, rows=attacked_rows.iloc[:0])
    assert set(robustness.adversarial(nothing_committed, {MINE: [mine]}, is_correct)["quantity"]) == {"adversarial_correct", "eps"}
