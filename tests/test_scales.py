from __future__ import annotations

import pytest

from reprolib import data, registry, scales
from reprolib.errors import BadInput
from reprolib.scales import CIFAR, OWN_ROLES, SCALES, SHARED_ROLES
from reprolib.training.recipes import recipe, without_attack


def test_an_unknown_scale_names_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"scale='latop' is unknown; allowed: smoke, laptop, cifar, gpu; did you mean 'laptop'\?"):
        scales.scale("latop")


@pytest.mark.parametrize("name", SCALES)
def test_every_scale_settles_every_finding_and_names_known_things(name: str) -> None:
    scale = SCALES[name]
    assert scale.name == name
    assert all(name in registry.settings(notebook)["presets"] for notebook in registry.notebooks())
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
    assert set(scale.roles) <= {*SHARED_ROLES, *OWN_ROLES}
    assert set(scale.on_demand) <= {*SHARED_ROLES, *OWN_ROLES}
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
    assert line.snapshots_per_epoch > 0


@pytest.mark.parametrize("name", SCALES)
def test_an_adversarial_network_stands_behind_its_standard_twin(name: str) -> None:
    entries = list(SCALES[name].entries())
    for i, (architecture, recipe_id, seed, dataset) in enumerate(entries):
        if recipe(recipe_id).norm is not None:
            twin = (architecture, without_attack(recipe(recipe_id)).id, seed, dataset)
            if twin in entries:
                assert entries.index(twin) < i


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
