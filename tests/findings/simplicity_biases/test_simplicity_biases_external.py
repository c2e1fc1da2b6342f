"""Others' pair: asked as ours, kept under a claim of its own, told with the numbers that claims read; the figure over the radius."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest
from drawing import assert_on_page, words
from layers import carded
from planting import near, plant, together

from reprolib.findings.simplicity_biases import external
from reprolib.findings.simplicity_biases.figures.trends import trends, values_of
from reprolib.models import external as published

LEVELS = {"external_standard": [0.6], "external_robust": [0.25]}


def kept(claim: str = "external") -> pd.DataFrame:
    shares = [plant(claim, quantity, LEVELS, n=20, starts=("",), share=True) for quantity in ("detector", "variety")]
    every = plant(claim, "detects", dict.fromkeys(LEVELS, [1.0]), n=20, starts=("",), share=True)
    others = ("tv_response@first", "relative_change@high", "relative_change@low", "diversity")
    return together(*shares, every, *(plant(claim, quantity, LEVELS, n=20, starts=("",), noise=0) for quantity in others))


def test_the_pair_is_told_with_the_numbers_of_the_claims() -> None:
    table = external.table(kept())
    assert table is not None
    assert list(table.index.str[:5]) == ["SIM-2", "SIM-3", "SIM-4", "SIM-5", "SIM-6"]
    assert table.loc["SIM-3 high_minus_low"].tolist() == [0, 0, 0]
    for line in ("SIM-4 low_level_share", "SIM-5 concept_variety", "SIM-6 mean_diversity"):
        assert table.loc[line].tolist() == pytest.approx([0.6, 0.25, -0.35])
    few = kept()
    few.loc[(few["quantity"] == "detects") & (few["unit"] >= "target_007"), "value"] = 0.0
    found = external.table(few)
    assert found is not None
    assert found.loc["SIM-5 concept_variety"].isna().all()
    assert external.table(kept("SIM-4")) is None


def test_rows_of_the_pair_stand_under_a_claim_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = {"external_standard": carded(0, "std"), "external_robust": carded(1, "l2_05")}
    monkeypatch.setattr(published, "networks", lambda device: pair)
    scale = SimpleNamespace(dataset="cifar10")
    study = SimpleNamespace(can_measure=True, only_mine=False, device="cpu", settings=SimpleNamespace(scale=scale))
    asked: list[list[str]] = []

    def ask(nets: external.Nets) -> pd.DataFrame:
        asked.append(list(nets))
        return together(kept("SIM-4"), plant("SIM-4", "iou", LEVELS, n=20, starts=("",)))

    rows = external.measure(study, ask, ask)  # type: ignore[arg-type]
    assert asked == [[*pair]] * 2
    assert set(rows["claim"]) == {"external"}
    assert "iou" not in set(rows["quantity"])
    assert len(rows) == len(kept())  # asked twice, kept once
    scale.dataset = "shapetexture"
    assert external.measure(study, ask).empty  # type: ignore[arg-type]


def test_trends_show_the_number_that_decides_of_every_network() -> None:
    arms = {"standard": near(0.5), "robust_small": near(0.4), "robust": near(0.3)}
    recipes = {"standard": "std", "robust_small": "l2_025", "robust": "l2_05"}
    rows = plant("SIM-1", "high_frequency_fraction", arms, n=20, starts=("",), noise=0)
    rows = rows.assign(recipe=rows["arm"].map(recipes))
    table = values_of(rows, "SIM-1")
    assert table.groupby("eps")["value"].mean().to_dict() == pytest.approx({0.0: 0.5, 0.25: 0.4, 0.5: 0.3})
    figure = trends(rows)
    assert_on_page(figure)
    assert len(figure.axes) == 1
    assert "SIM-1\nhigh-frequency share" in words(figure)
