from __future__ import annotations

import pytest

from reprolib import data, scales
from reprolib.errors import BadInput
from reprolib.scales import FINDINGS, SCALES


def test_an_unknown_scale_names_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"scale='latop' is unknown; allowed: smoke, laptop, cifar; did you mean 'laptop'\?"):
        scales.scale("latop")


@pytest.mark.parametrize("name", SCALES)
def test_every_scale_settles_every_finding_and_names_known_things(name: str) -> None:
    scale = SCALES[name]
    assert scale.name == name
    assert set(scale.findings) == set(FINDINGS)
    assert scale.dataset in data.NAMES
    assert {"standard", "robust", "untrained"} <= set(scale.roles)


@pytest.mark.parametrize("name", SCALES)
def test_the_table_trains_what_the_findings_ask_for_by_default(name: str) -> None:
    scale, entries = SCALES[name], list(SCALES[name].entries())
    assert len(entries) == len(set(entries))
    for role in ("standard", "robust"):
        for seed in range(scale.seeds):
            assert (scale.architecture, scale.roles[role], seed) in entries
        assert (scale.judge_architecture, scale.roles[role], scale.judge_seed) in entries


@pytest.mark.parametrize("name", SCALES)
def test_a_judge_is_never_an_inverted_network(name: str) -> None:
    scale = SCALES[name]
    assert scale.judge_architecture != scale.architecture or scale.judge_seed >= scale.seeds


def test_mirroring_is_off_where_it_would_turn_one_class_into_another() -> None:
    for scale in SCALES.values():
        if scale.dataset.startswith("shapetexture"):  # the gratings of 45 and 135 degrees are mirror images
            assert not scale.schedule.flip
