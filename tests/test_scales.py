from __future__ import annotations

import pytest

from reprolib import data, registry, scales
from reprolib.errors import BadInput
from reprolib.models.networks import build
from reprolib.scales import CIFAR, GPU, LAPTOP, SCALES, SHARED_ROLES, SMOKE
from reprolib.training.recipes import recipe, without_attack
from reprolib.training.specs import Spec


def test_an_unknown_scale_names_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"scale='latop' is unknown; allowed: smoke, laptop, cifar, gpu; did you mean 'laptop'\?"):
        scales.scale("latop")


@pytest.mark.parametrize("name", SCALES)
def test_every_scale_settles_every_finding_and_names_known_things(name: str) -> None:
    scale = SCALES[name]
    assert scale.name == name
    assert all(name in registry.settings(finding)["presets"] for finding in registry.findings())
    assert scale.dataset in data.NAMES
    assert {"standard", "robust", "untrained"} <= set(scale.roles)


@pytest.mark.parametrize("name", SCALES)
def test_the_table_trains_what_the_findings_ask_for_by_default(name: str) -> None:
    scale, entries = SCALES[name], list(SCALES[name].entries())
    judges = list(SCALES[scale.judge_scale or name].entries())
    assert len(entries) == len(set(entries))
    for role in ("standard", "robust"):
        for seed in range(scale.seeds):
            assert (scale.architecture, scale.roles[role], seed, scale.dataset) in entries
        assert (scale.judge_architecture, scale.roles[role], scale.judge_seed, scale.dataset) in judges


@pytest.mark.parametrize("name", SCALES)
def test_every_role_has_networks_in_the_table_and_names_a_recipe(name: str) -> None:
    scale = SCALES[name]
    assert set(scale.roles) <= set(SHARED_ROLES)
    assert set(scale.on_demand) <= set(SHARED_ROLES)
    for role in scale.roles:
        assert scale.seeds_of(scale.architecture, scale.roles[role]), role
    assert SHARED_ROLES[:2] == ("standard", "robust")


@pytest.mark.parametrize("name", SCALES)
def test_a_matched_control_stands_behind_its_arms_and_their_states_are_kept(name: str) -> None:
    scale, entries = SCALES[name], list(SCALES[name].entries())
    for seed in scale.seeds_of(scale.architecture, "std_matched"):
        place = entries.index((scale.architecture, "std_matched", seed, scale.dataset))
        for role in ("standard", "robust"):
            assert entries.index((scale.architecture, scale.roles[role], seed, scale.dataset)) < place
    line = scale.line(scale.architecture, scale.roles["standard"], scale.dataset)
    assert line is not None
    assert line.snapshots_per_epoch == (4 if name == "gpu" else 8)  # ResNet-18's states are 140 times as large as W8's


@pytest.mark.parametrize("name", SCALES)
def test_an_adversarial_network_stands_behind_its_standard_twin(name: str) -> None:
    entries = list(SCALES[name].entries())
    for i, (architecture, recipe_id, seed, dataset) in enumerate(entries):
        if recipe(recipe_id).norm is not None:
            twin = (architecture, without_attack(recipe(recipe_id)).id, seed, dataset)
            if twin in entries:
                assert entries.index(twin) < i


def test_only_cifar_leaves_controls_to_the_command() -> None:
    assert CIFAR.on_demand == ("standard", "robust", "untrained")
    for scale in (SMOKE, LAPTOP):
        assert scale.on_demand == SHARED_ROLES


def test_no_notebook_trains_a_network_of_the_gpu_scale() -> None:
    assert GPU.on_demand == ()
    assert GPU.minutes_on == "cuda"
    assert {scale.minutes_on for scale in SCALES.values() if scale is not GPU} == {"cpu"}


def test_the_gpu_scale_is_judged_by_the_small_networks_of_cifar() -> None:
    assert (GPU.judge_scale, GPU.judge_architecture, GPU.dataset) == ("cifar", CIFAR.architecture, CIFAR.dataset)
    assert [scale.name for scale in SCALES.values() if scale.judge_scale] == ["gpu"]
    assert all(GPU.roles[role] == CIFAR.roles[role] for role in ("standard", "robust"))


def test_the_inner_attack_has_ten_steps_in_linf_at_the_gpu_scale_and_the_schedules_elsewhere() -> None:
    assert {recipe_id: Spec(recipe_id, "resnet18", "cifar10", 0, "gpu").schedule.attack_steps for recipe_id in ("l2_05", "linf_8")} == {
        "l2_05": 7,
        "linf_8": 10,
    }
    assert Spec("linf_8", "w8", "cifar10", 0, "cifar").schedule.attack_steps == CIFAR.schedule.attack_steps == 3
    assert Spec("linf_8", "resnet18", "cifar10", 0, "gpu").description()["schedule"]["attack_steps"] == 10


def test_the_network_of_the_gpu_scale_has_seventeen_maps_which_its_code_makes_eighteen() -> None:
    network = build(GPU.architecture, GPU.n_classes, *data.normaliser(GPU.dataset), seed=0)
    assert len(network.layer_names) == 17
    assert network.n_features == 512
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(11.17e6, rel=0.01)


@pytest.mark.parametrize("name", ["cifar", "gpu"])
def test_an_inversion_may_walk_three_times_the_distance_between_images(name: str) -> None:
    preset, d90 = registry.settings("invertibility")["presets"][name], 21.2  # of CIFAR-10, measured from noise and from images
    assert 5 * preset["steps"] * preset["step"] >= 3 * d90


def test_the_laptop_trains_both_margin_sets_on_the_small_network() -> None:
    sets = {(*what, seed, dataset) for *what, seed, dataset in LAPTOP.entries() if dataset != LAPTOP.dataset}
    names = ("shapetexture_2to1", "shapetexture_1to2")
    assert sets == {("tinycnn", recipe_id, seed, name) for recipe_id in ("std", "l2_15") for seed in (0, 1) for name in names}


def test_a_line_on_another_set_is_not_mistaken_for_the_scales_own() -> None:
    assert CIFAR.seeds_of("resnet8", "std") == []
    assert CIFAR.line("resnet8", "std", "cifar10") is None
    line = CIFAR.line("resnet8", "std", "fashion_mnist")
    assert line is not None
    assert line.minutes > 0


@pytest.mark.parametrize("name", SCALES)
def test_a_judge_is_never_an_inverted_network(name: str) -> None:
    scale = SCALES[name]
    assert scale.judge_architecture != scale.architecture or scale.judge_seed >= scale.seeds


def test_mirroring_is_off_where_it_would_turn_one_class_into_another() -> None:
    for scale in SCALES.values():
        if scale.dataset.startswith("shapetexture"):  # the gratings of 45 and 135 degrees are mirror images
            assert not scale.schedule.flip
