"""All sections at their smallest: the groups of rows, what the ledger makes of them, and what stands in for what is not here."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from layers import carded, compared, keep_states, planted_compared, planted_study
from planting import judge_finding

from reprolib import registry
from reprolib.errors import BadInput
from reprolib.findings.block_structure import (
    attacking,
    batches,
    cards,
    comparing,
    external,
    hsic_rows,
    networks,
    overfitting,
    rotating,
    settling,
    sweeping,
)
from reprolib.findings.block_structure.networks import ARMS, Compared
from reprolib.judging.tidy import rounded, write_rows
from reprolib.models.grams import minibatch_cka
from reprolib.training.states import spec_of_card

SHARED = (
    "hsic",
    "hsic@without_pc1",
    "hsic@without_top_points",
    "hsic_pixels",
    "off_diagonal_mean@procrustes",
    "off_diagonal_mean@procrustes_shuffled",
    "pc1_share",
    "top_points_share",
)
SECTIONS = (
    comparing.arms,
    comparing.roles,
    rotating.measure,
    attacking.measure,
    settling.measure,
    overfitting.measure,
    sweeping.measure,
    external.measure,
)


@pytest.fixture(scope="module", autouse=True)
def own_folders(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("REPROLIB_ZOO", str(tmp_path_factory.mktemp("kept") / "zoo"))
        patch.setattr(rotating, "wide_batches", lambda study, n: batches.batches(study.images("test"), 8, 2))
        patch.setattr("reprolib.measures.procrustes.ROWS_PER_DIMENSION", 0)
        yield


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    planted = planted_compared(planted_study(tmp_path_factory.mktemp("committed")))
    for role in ("standard", "robust"):
        keep_states(planted.deep[role][0], 3)
    return planted


@pytest.fixture(scope="module")
def rows(nets):
    nets.study.add(cards.measure(nets))
    for measure in SECTIONS:
        nets.study.add(measure(nets, compared))
    return nets.study.rows


def of(rows, claim, quantity, arm=None):
    found = rows[(rows["claim"] == claim) & (rows["quantity"] == quantity)]
    return found if arm is None else found[found["arm"] == arm]


def test_rows_are_fit_to_be_stored_and_judged(rows):
    assert len(rounded(rows)) == len(rows)
    judged = {entry["id"]: entry for entry in judge_finding("block_structure", rows, "smoke")}
    assert list(judged) == [f"BLK-{k}" for k in range(1, 10)]
    unmeasured = {name for name, entry in judged.items() if entry["estimate"] is None}
    assert unmeasured == {"BLK-3", "BLK-5", "BLK-9"}  # a TinyCNN has no stages, which BLK-9 asks about too; no pair that overfits


def test_each_group_holds_every_network_it_is_read_for(rows, nets):
    for quantity in SHARED:
        seen = of(rows, "BLK-1", quantity).groupby("arm")["network"].nunique()
        assert {arm: seen.get(arm) for arm in ARMS} == dict.fromkeys(ARMS, 2), quantity
    assert set(of(rows, "BLK-1", "hsic")["arm"]) == set(nets.deep)
    assert set(of(rows, "BLK-10", "hsic")["arm"]) == {role for role in nets.main if nets.main[role]}
    assert set(of(rows, "BLK-6", "hsic_states")["arm"]) == set(nets.deep)
    assert of(rows, "BLK-10", "hsic_states").empty  # the scale's own architecture is the deep one
    assert of(rows, "BLK-7", "hsic_states").groupby("arm")["network"].nunique().tolist() == [1, 1]
    assert set(of(rows, "networks", "adversarial_accuracy")["arm"]) == {role for role in nets.main if nets.main[role]}


def test_rows_give_back_the_similarities_of_the_networks(rows, nets):
    network = nets.deep["standard"][0]
    study = planted_study(None)
    used = batches.batches(study.images("test"), 8, 3)
    one = of(rows, "BLK-1", "hsic", "standard")
    found = hsic_rows.network(one[one["network"] == network.sha256[:12]]).matrix()
    assert found == pytest.approx(minibatch_cka(network, used).matrix(), abs=1e-3)
    partner = nets.deep["robust"][1]
    pairs = of(rows, "BLK-1", "hsic_pair", "standard")
    pair = pairs[(pairs["network"] == network.sha256[:12]) & pairs["unit_2"].str.startswith(partner.sha256[:12])]
    assert hsic_rows.pair(pair).same_depth() == pytest.approx(np.diagonal(minibatch_cka(network, used, partner).matrix()), abs=1e-3)


def test_no_two_networks_of_one_seed_are_paired(rows, nets):
    seed = {network.sha256[:12]: network.card["description"]["seed"] for role in nets.deep for network in nets.deep[role]}
    pairs = of(rows, "BLK-1", "hsic_pair")
    assert len(pairs)
    assert all(seed[network] != seed[partner] for network, partner in zip(pairs["network"], pairs["unit_2"].str[:12], strict=True))


def test_the_same_network_has_the_same_rows_in_both_groups_where_the_architectures_are_one(rows):
    key = ["network", "unit", "unit_2"]
    both = of(rows, "BLK-1", "hsic").merge(of(rows, "BLK-10", "hsic"), on=key)
    assert set(both["arm_x"]) == {"standard", "robust", "untrained", "gauss", "blur", "std_matched"}
    assert (both["value_x"] == both["value_y"]).all()


def test_each_control_is_compared_with_standard_networks_of_other_seeds(rows, nets):
    pairs = of(rows, "BLK-1", "hsic_pair", "standard")
    for role in ("gauss", "blur", "std_matched"):
        with_control = pairs[pairs["unit_2"].str.startswith(nets.deep[role][0].sha256[:12])]
        assert set(with_control["network"]) == {nets.deep["standard"][1].sha256[:12]}  # both are of seed 0 else


def test_of_another_architecture_the_controls_come_with_their_arms(nets, tmp_path):
    other = {role: [carded(network.card["description"]["seed"], role, weights=50 + k + 10 * r) for k, network in enumerate(nets.main[role])]
             for r, role in enumerate(("standard", "robust", "gauss", "untrained"))}  # fmt: skip
    nets = Compared(planted_study(tmp_path), {role: nets.deep[role] for role in ARMS}, other)
    measured = comparing.roles(nets, compared)
    pairs = of(measured, "BLK-10", "hsic_pair")
    partners = {network.sha256[:12]: role for role in other for network in other[role]}
    assert set(pairs["arm"]) == {"standard"}
    assert {partners[key] for key in pairs["unit_2"].str[:12]} == {"standard", "robust", "gauss"}
    nets = Compared(nets.study, nets.deep, {"standard": [], "robust": [], "gauss": other["gauss"]})
    assert set(of(comparing.roles(nets, compared), "BLK-10", "hsic")["arm"]) == {"gauss"}


def test_a_role_without_networks_is_left_out_and_so_are_states_that_were_not_kept(tmp_path, capsys):
    of_role = {"standard": [carded(5)], "robust": []}
    alone = Compared(planted_study(tmp_path), of_role, of_role)
    measured = pd.concat([cards.measure(alone), *(measure(alone, compared) for measure in SECTIONS)])
    assert set(measured["arm"]) == {"standard", "judge"}
    assert of(measured, "BLK-7", "hsic_states").empty
    assert of(measured, "BLK-1", "hsic_pair").empty
    assert "not kept here of tinycnn-std-s5" in capsys.readouterr().out


@pytest.fixture
def elsewhere(rows, nets, tmp_path, monkeypatch):
    """The same networks where no states of their trainings were kept, beside the committed rows."""
    write_rows(tmp_path / "rows.csv.gz", rows)
    monkeypatch.setenv("REPROLIB_ZOO", str(tmp_path / "empty" / "zoo"))
    return Compared(planted_study(tmp_path), nets.deep, nets.main)


def test_committed_rows_of_the_same_networks_stand_in_for_states_that_are_not_here(rows, elsewhere):
    elsewhere.study.add(comparing.arms(elsewhere, compared))
    measured = rounded(settling.measure(elsewhere, compared))
    for claim, quantity in (("BLK-7", "hsic_states"), ("shown", "cka")):
        pd.testing.assert_frame_equal(
            of(measured, claim, quantity).reset_index(drop=True), of(rows, claim, quantity).reset_index(drop=True)
        )


def test_none_stands_in_where_a_knob_is_turned(elsewhere):
    settings = elsewhere.study.settings
    elsewhere.study.settings = type(settings)(settings.finding, settings.scale, settings.values, {"attack_steps": 2}, "cpu", "off")
    assert settling.measure(elsewhere, compared).empty


def test_none_stands_in_where_the_notebook_compares_other_features(elsewhere, capsys):
    def averaged(network, images):
        return {name: value.flatten(2).mean(dim=2) if value.ndim > 2 else value for name, value in compared(network, images).items()}

    elsewhere.study.add(comparing.arms(elsewhere, averaged))
    assert settling.measure(elsewhere, averaged).empty
    assert "Other layers are compared here" in capsys.readouterr().out


def test_without_the_images_nothing_is_measured(tmp_path):
    nets = planted_compared(planted_study(tmp_path))
    nets.study.can_measure = False
    assert cards.measure(nets).empty
    assert all(measure(nets, compared).empty for measure in SECTIONS)


def test_the_pair_that_overfits_brings_its_condition_with_it(tmp_path, monkeypatch):
    pair = {"standard": [carded(0, "std_5k", weights=40)], "robust": [carded(0, "linf_8_5k", weights=41)]}
    for role in pair:
        keep_states(pair[role][0], 5, first=200)
    accuracies = iter([0.1, 0.6, 0.5, 0.55, 0.5])  # of epochs 1, 4 and 5; of 4 and 5 on other images
    monkeypatch.setattr(overfitting, "adversarial_accuracy", lambda *a, **k: SimpleNamespace(value=next(accuracies)))
    found = overfitting.measure(Compared(planted_study(tmp_path), {}, {}, overfit=pair), compared)
    assert set(of(found, "BLK-5", "hsic_states")["arm"]) == {"standard", "robust"}
    states = set(of(found, "BLK-5", "hsic_states")["unit_2"].str.rpartition("|")[0])
    assert {"best|last", "before_1|before_2", "best|best", "last|last"} <= states
    assert of(found, "overfitting", "train_accuracy")["arm"].tolist() == ["standard", "robust"]
    assert of(found, "overfitting", "adversarial_accuracy")["unit_2"].tolist() == ["best", "last"]


def test_the_attack_is_the_robust_recipes_unless_the_reader_turns_it(tmp_path):
    assert attacking.attack_of(planted_study(tmp_path), "l2_15").eps == 1.5
    assert attacking.attack_of(planted_study(tmp_path, attack_eps=0.25), "l2_15").eps == 0.25
    with pytest.raises(BadInput, match="'blur' of the robust networks is not adversarial"):
        attacking.attack_of(planted_study(tmp_path), "blur")


def test_networks_of_another_architecture_are_found_by_the_table_and_never_trained():
    asked = []
    study = planted_study(None)
    cifar = __import__("reprolib.scales", fromlist=["CIFAR"]).CIFAR
    settings = type(study.settings)(
        "block_structure", cifar, {"seeds": 2, **registry.settings("block_structure")["presets"]["cifar"]}, {}, "cpu", "off"
    )
    fake = SimpleNamespace(
        settings=settings,
        networks=lambda mine: {"standard": ["w8"]},
        found=lambda specs: [asked.append(spec.name) or spec.name for spec in specs],
    )
    found = networks.networks(fake)
    assert found.main == {"standard": ["w8"]}
    assert found.deep == {
        "standard": ["net14-std-s0", "net14-std-s1"],
        "robust": ["net14-linf_8-s0", "net14-linf_8-s1"],
        "untrained": ["net14-untrained-s0", "net14-untrained-s1"],
        "robust_l2": ["net14-l2_05-s0"],
    }
    assert found.fashion == {"standard": ["resnet8-std-s0-fashion_mnist"], "robust": ["resnet8-l2_1-s0-fashion_mnist"]}
    assert found.overfit["robust"] == ["net14-linf_8_5k-s0", "net14-linf_8_5k-s1"]


def test_a_card_leads_back_to_the_network_of_the_zoo():
    spec = spec_of_card(carded(3, "l2_025"))
    assert spec.name == "tinycnn-l2_025-s3"
    assert spec.scale == "smoke"
