"""The forest of verdicts: where a claim lies, in which colour, and what each control explains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planting import LEDGER, good_cards, judge_finding, plant, together

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.figures.verdicts import COLOURS, forest
from reprolib.judging.ledger import Claim, load_claims


@pytest.fixture
def claims(tmp_path: Path) -> dict[str, Claim]:
    path = tmp_path / "claims.toml"
    path.write_text(LEDGER)
    return load_claims(path=path)


def judged(claims: dict[str, Claim], robust: float) -> dict[str, Any]:
    levels = {"standard": [0.9, 0.91, 0.89], "robust": [robust, robust + 0.01, robust - 0.01], "gauss": [0.8, 0.81, 0.79]}
    rows = together(plant("D", "distance", levels), good_cards())
    return {"finding": "planted", "scale": "laptop", "claims": judge_finding("planted", rows, "laptop", claims)}


def test_an_effect_is_drawn_in_its_smallest_effects_to_the_right_as_claimed(claims: dict[str, Claim]) -> None:
    for robust, word, side in ((0.5, "supported", 1), (1.3, "contradicted", -1), (0.9, "negligible", 0)):
        results = judged(claims, robust)
        left = forest([results], claims).axes[0]
        interval, dot = left.lines[:2]
        assert interval.get_color() == dot.get_color() == COLOURS[word]
        (x,) = np.asarray(dot.get_xdata(), dtype=float)
        assert x == pytest.approx(-results["claims"][0]["estimate"] / 0.05)
        assert np.sign(round(x)) == side
        low, high = sorted(np.asarray(interval.get_xdata(), dtype=float))
        assert low < x < high
    assert {text.get_text() for text in left.texts} == {"not run"}


def test_the_share_a_control_explains_stands_beside_what_holds_in_the_look_of_its_role(claims: dict[str, Claim]) -> None:
    right = forest([judged(claims, 0.5)], claims).axes[1]
    dots = [line for line in right.lines if line.get_marker() == style.ROLES["gauss"].marker]
    assert [float(np.asarray(dot.get_xdata())[0]) for dot in dots] == pytest.approx([0.25], abs=0.02)
    assert dots[0].get_color() == style.ROLES["gauss"].colour
    assert not any(line.get_marker() == style.ROLES["gauss"].marker for line in forest([judged(claims, 0.9)], claims).axes[1].lines)


def test_scales_are_named_where_there_are_several_and_what_cannot_be_drawn_is_refused(claims: dict[str, Claim]) -> None:
    both = [judged(claims, 0.5), judged(claims, 0.5) | {"scale": "cifar"}]
    names = [label.get_text() for label in forest(both, claims).axes[0].get_yticklabels()]
    assert names[0].startswith("D (laptop)")
    assert names[len(claims)].startswith("D (cifar)")
    with pytest.raises(BadInput, match="results holds no claim"):
        forest([], claims)
    with pytest.raises(BadInput, match="claim 'D' is not in the ledger"):
        forest(both, {})


def test_a_role_has_one_name_in_figures_and_in_words() -> None:
    from reprolib.measures.verdicts import TRAINED

    assert {name: style.ROLES[name].label for name in TRAINED} == TRAINED
