"""One network in several states: on attacked images, in earlier epochs, before and after overfitting; from planted trainings."""

import numpy as np
import pytest
import torch
from inverses import planted_set
from layers import carded, compared, keep_states, planted_study

from reprolib import data
from reprolib.findings.block_structure import attacking, overfitting, sweeping
from reprolib.findings.block_structure.attacking import Attack, attack, noise, stays, success
from reprolib.findings.block_structure.batches import batches, state_batches
from reprolib.findings.block_structure.networks import Compared
from reprolib.findings.block_structure.overfitting import chosen_epochs, overfit
from reprolib.findings.block_structure.settling import Beginnings, looked_at, settle
from reprolib.findings.block_structure.states import compare_states, untrained
from reprolib.measures.indices import off_diagonal_mean
from reprolib.models.grams import minibatch_cka
from reprolib.models.networks import build, weights_sha256
from reprolib.training.loop import estimate_batch_norm
from reprolib.training.states import at, snapshots

HOW = Attack("l2", 0.75, 4)


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROLIB_ZOO", str(tmp_path / "zoo"))
    monkeypatch.setenv("REPROLIB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def used():
    return batches(planted_set(), 16, 3)


def test_a_state_compared_with_itself_is_alike_at_every_depth_and_with_another_as_two_networks_are(used):
    one, other = carded(0), carded(1)
    pairs, whole = compare_states(
        {"a": one, "b": other, "c": one}, dict.fromkeys("abc", used), [("a", "c"), ("a", "b")], compared, whole=True
    )
    assert pairs["a", "c"].same_depth() == pytest.approx(1, abs=1e-6)
    expected = np.diagonal(minibatch_cka(one, used, other).matrix())
    assert pairs["a", "b"].same_depth() == pytest.approx(expected, abs=1e-6)
    assert np.allclose(whole["b"].matrix(), minibatch_cka(other, used).matrix(), atol=1e-6)


def test_adversarial_images_stay_in_the_ball_and_are_attacked_once(used, monkeypatch):
    network = carded(0)
    moved, share = attack(network, used, HOW)
    x = torch.cat([*used])
    assert (moved - x).flatten(1).norm(dim=1).max() <= HOW.eps + 1e-5
    assert 0 <= moved.min() <= moved.max() <= 1
    right = network(x).argmax(dim=1) == used.labels.flatten()
    assert share == pytest.approx(success(network, moved, used.labels.flatten(), right))
    monkeypatch.setattr(attacking, "training_examples", None)
    assert torch.equal(attack(network, used, HOW)[0], moved)


@pytest.mark.parametrize(("norm", "eps"), [("l2", 0.3), ("linf", 0.02)])
def test_noise_has_the_norm_it_is_asked_for_and_is_the_same_for_every_network(norm, eps):
    x = torch.full((5, 3, 8, 8), 0.5)
    away = (noise(x, norm, eps) - x).flatten(1)
    size = away.norm(dim=1) if norm == "l2" else away.abs().amax(dim=1)
    assert size.tolist() == pytest.approx([eps] * 5, rel=1e-4)
    assert torch.equal(noise(x, norm, eps), noise(x, norm, eps))


def test_success_counts_only_what_was_right_before():
    network = carded(0)
    x = torch.cat([*batches(planted_set(), 16, 2)])
    seen = network(x).argmax(dim=1)
    right = torch.zeros(32, dtype=torch.bool).index_fill_(0, torch.arange(8), True)
    assert success(network, x, seen, right) == 0
    wrong = seen.clone()
    wrong[:2] = (wrong[:2] + 1) % 4
    assert success(network, x, wrong, right) == pytest.approx(2 / 8)
    assert success(network, x, seen, torch.zeros(32, dtype=torch.bool)) == 0


def test_at_equal_success_every_attack_is_scaled_down_to_the_one_withstood_best(used):
    attacked = stays(
        {"standard": [carded(0), carded(1)], "robust": [carded(0, "l2_075", weights=10)]}, used, Attack("l2", 3.0, 4), compared
    )
    every = [*attacked.values()]
    full = [one.success["adversarial"] for one in every]
    assert max(full) > min(full)
    for one in every:
        assert min(full) <= one.success["equal_success"] <= one.success["adversarial"]
        assert one.scale["adversarial"] == one.scale["noise"] == 1
        assert (one.scale["equal_success"] < 1) == (one.success["adversarial"] > min(full))
    weakest = max(every, key=lambda one: one.success["adversarial"])
    adversarial, equal = (weakest.pairs["clean", kind].same_depth().mean() for kind in ("adversarial", "equal_success"))
    assert equal > adversarial


def test_a_control_that_withstands_the_attack_better_than_both_arms_is_attacked_in_full(used):
    attacked = stays({"standard": [carded(0)], "robust": [carded(1)], "untrained": [carded(2)]}, used, Attack("l2", 3.0, 4), compared)
    arms = min(one.success["adversarial"] for sha, one in attacked.items() if sha != carded(2).sha256)
    control = attacked[carded(2).sha256]
    assert (control.scale["equal_success"] == 1) == (control.success["adversarial"] <= arms)


def test_states_are_found_by_whole_epochs_and_loaded_without_touching_the_network(used):
    network = carded(0)
    assert snapshots(network) == {}
    keep_states(network, 3)
    found = snapshots(network)
    assert list(found) == [1, 2, 3]
    before = weights_sha256(network)
    assert weights_sha256(at(network, found[3])) == before
    assert weights_sha256(at(network, found[1])) != before
    assert weights_sha256(network) == before


def test_the_untrained_state_is_that_of_the_zoo(used):
    network = carded(2)
    training = planted_set().x
    mean, std = data.normaliser("shapetexture_gratings")  # the set on its card
    fresh = build("tinycnn", 4, mean, std, 2, 16)
    estimate_batch_norm(fresh, training)
    assert weights_sha256(untrained(network, training, "cpu")) == weights_sha256(fresh)


def test_every_epoch_is_held_against_the_last_and_none_without_states(used, tmp_path):
    network, beginnings = carded(0), Beginnings(planted_study(tmp_path), {0: carded(7)})
    assert settle(network, used, compared, beginnings) is None
    keep_states(network, 3)
    pairs, maps = settle(network, used, compared, beginnings)
    assert list(pairs) == [(f"epoch_{t}", "epoch_3") for t in range(3)]
    state = at(network, snapshots(network)[2])
    expected = np.diagonal(minibatch_cka(state, used, network).matrix())
    assert pairs["epoch_2", "epoch_3"].same_depth() == pytest.approx(expected, abs=1e-6)
    begun = np.diagonal(minibatch_cka(carded(7), used, network).matrix())
    assert pairs["epoch_0", "epoch_3"].same_depth() == pytest.approx(begun, abs=1e-6)
    assert set(maps) == {0, 1, 2, 3}
    assert np.allclose(maps[3], minibatch_cka(network, used).matrix(), atol=1e-6)


def test_a_long_training_is_looked_at_most_often_in_its_beginning_and_always_from_its_start():
    assert looked_at(3) == [0, 1, 2]
    assert looked_at(10) == [0, 1, 2, 4, 7]
    assert looked_at(12) == [0, 1, 2, 3, 6, 9]


@pytest.mark.parametrize(
    ("accuracy", "epochs"),
    [
        ({10: 0.2, 20: 0.5, 30: 0.3}, {"best": 20, "last": 30, "before_1": 10, "before_2": 20}),
        ({1: 0.1, 4: 0.5, 8: 0.5}, None),
        ({1: 0.1, 40: 0.5, 80: 0.3}, None),
        ({1: 0.1, 2: 0.2, 3: 0.5}, {"best": 3, "last": 3, "before_1": 3, "before_2": 3}),
    ],
)
def test_the_states_before_lie_as_far_apart_as_best_and_last_or_there_are_none(accuracy, epochs):
    assert chosen_epochs(accuracy, range(1, max(accuracy) + 1)) == epochs


def test_the_pair_that_overfits_is_looked_at_at_the_same_epochs(monkeypatch, tmp_path):
    standard, robust, alone = carded(0, "std_5k"), carded(0, "linf_8_5k", weights=10), carded(1, "std_5k", weights=5)
    for network in (standard, robust, alone):
        keep_states(network, 9)
    accuracies = iter([0.2, 0.5, 0.6, 0.4, 0.55, 0.3])
    looked = []

    def measured(network, *arguments, **keywords):
        looked.append(weights_sha256(network))
        return type("Accuracy", (), {"value": next(accuracies)})

    monkeypatch.setattr(overfitting, "adversarial_accuracy", measured)
    nets = Compared(planted_study(tmp_path), {}, {}, overfit={"standard": [standard, alone], "robust": [robust]})
    found = overfit(nets, compared)
    used = state_batches(nets.study)
    assert len(looked) == 6  # epochs 1, 4, 8 and 9 to choose, 8 and 9 again on other images
    assert [len(found[role]) for role in ("standard", "robust")] == [1, 1]  # seed 1 has no robust twin
    for role in found:
        (one,) = found[role]
        assert one.epochs == {"best": 8, "last": 9, "before_1": 7, "before_2": 8}
        assert 0 <= one.train_accuracy <= 1
        states = [at(one.network, snapshots(one.network)[epoch]) for epoch in (8, 9)]
        expected = np.diagonal(minibatch_cka(states[0], used, states[1]).matrix())
        assert one.pairs["best", "last"].same_depth() == pytest.approx(expected, abs=1e-6)
    assert found["robust"][0].accuracy == pytest.approx({"best": 0.55, "last": 0.3})
    assert found["standard"][0].accuracy == {}


def test_a_seed_that_is_best_too_early_is_left_out_and_a_line_says_so(monkeypatch, capsys, tmp_path):
    pair = {"standard": [carded(0, "std_5k")], "robust": [carded(0, "linf_8_5k", weights=10)]}
    for role in pair:
        keep_states(pair[role][0], 9)
    accuracies = iter([0.2, 0.6, 0.4, 0.3])
    monkeypatch.setattr(overfitting, "adversarial_accuracy", lambda *_, **__: type("Accuracy", (), {"value": next(accuracies)}))
    assert overfit(Compared(planted_study(tmp_path), {}, {}, overfit=pair), compared) == {}
    assert "left out of BLK-5" in capsys.readouterr().out


def test_batches_cut_from_larger_ones_give_what_small_ones_give(tmp_path):
    images, network = planted_set(), carded(0)
    found = sweeping.batch_sizes(planted_study(tmp_path, images), network, compared, (8, 16, 40))
    assert set(found) == {(kind, n) for kind in ("biased", "unbiased") for n in (8, 40)}  # 16 does not divide 40
    expected = off_diagonal_mean(minibatch_cka(network, batches(images, 8, 5)).matrix())  # the first 40
    assert found["unbiased", 8] == pytest.approx(float(expected), abs=1e-5)
    assert found["biased", 8] > found["unbiased", 8]


def test_the_plain_form_calls_independent_noise_alike_and_the_unbiased_one_does_not(monkeypatch):
    monkeypatch.setattr(sweeping, "GAUSSIAN_SIZES", (32, 64))
    monkeypatch.setattr(sweeping, "DRAWS", 6)
    found = sweeping.independent_gaussians()
    of = {(kind, n): np.mean([found[kind, n, draw] for draw in range(6)]) for kind in ("biased", "unbiased") for n in (32, 64)}
    assert of["biased", 32] == pytest.approx(0.967, abs=0.01)  # measured before on 1,000 units
    assert of["biased", 64] == pytest.approx(0.940, abs=0.01)
    assert abs(of["unbiased", 64]) < 0.04
