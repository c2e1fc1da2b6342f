"""Correlations over networks: who carries them, ranks and values, and what is left at a fixed third number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import planting
import pytest
from planting import entry, in_file, judge, plant, together

from reprolib.errors import BadInput
from reprolib.judging.claims import networks_an_arm
from reprolib.judging.quantities import Correlation

ARCHITECTURES, RECIPES = ("one", "two", "three", "four", "five"), ("standard", "gauss", "label_smoothing")
Column = Callable[[int, int], float]  # of the places of architecture and recipe


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric and how far attacks have to go; the metric and confidence lie with the rows of another claim."""
    made = {"ranks": {}, "values": {"method": "pearson"}, "partial": {"given": "confidence"}}
    for name, how in made.items():
        monkeypatch.setitem(planting.planted.QUANTITIES, name, Correlation("metric", "distance", x_rows="M", **how))


def points(columns: dict[str, Column], seeds: int = 2) -> pd.DataFrame:
    """Rows of 5 architectures x 3 recipes, two seeds around each point: those of distance under claim K, all others under M."""
    frames = []
    for quantity, column in columns.items():
        for a, architecture in enumerate(ARCHITECTURES):
            of = {recipe: [column(a, r) + 0.01 * (seed - (seeds - 1) / 2) for seed in range(seeds)] for r, recipe in enumerate(RECIPES)}
            rows = plant("K" if quantity == "distance" else "M", quantity, of, n=8, noise=0)
            frames.append(rows.assign(architecture=architecture, network=rows["network"] + architecture))
    return together(*frames)


def judged(folder: Path, rows: pd.DataFrame, quantity: str = "ranks") -> dict[str, Any]:
    arms = str([*RECIPES]).replace("'", '"')
    text = entry("K", quantity, statistic='"correlation"', arms=arms, unit='"network"', smallest_effect="0.1") + entry("M", "metric")
    return judge("K", rows, "laptop", in_file(folder, text))


SCATTER = np.random.default_rng(3).normal(0, 0.4, (2, 5, 3))
ONE_CARRIES: dict[str, Column] = {
    "metric": lambda a, r: 10.0 * (a == 0) + float(SCATTER[0, a, r]),
    "distance": lambda a, r: 10.0 * (a == 0) + float(SCATTER[1, a, r]),
}
RECIPES_CARRY: dict[str, Column] = {
    "metric": lambda a, r: float(r) + 0.1 * a,
    "distance": lambda a, r: 2.0 * r - 0.1 * a + 0.3 * float(SCATTER[0, a, r]),
}


@pytest.mark.parametrize(("quantity", "least"), [("ranks", 0.35), ("values", 0.95)])
def test_what_one_architecture_carries_is_not_supported_and_what_recipes_carry_is(tmp_path: Path, quantity: str, least: float) -> None:
    one = judged(tmp_path, points(ONE_CARRIES), quantity)
    assert one["estimate"] > least
    assert one["verdict"] == "inconclusive"
    recipes = judged(tmp_path, points(RECIPES_CARRY), quantity)
    assert (recipes["verdict"], networks_an_arm(recipes)) == ("supported", "15 points")


def test_pearson_is_of_values_and_spearman_of_ranks(tmp_path: Path) -> None:
    rows = points({"metric": lambda a, r: float(r + 3 * a), "distance": lambda a, r: float(np.exp(r + 3 * a))}, seeds=1)
    of = np.arange(15.0)
    assert judged(tmp_path, rows)["estimate"] == pytest.approx(1, abs=1e-5)
    assert judged(tmp_path, rows, "values")["estimate"] == pytest.approx(np.corrcoef(of, np.exp(of))[0, 1], rel=1e-3)


def test_two_numbers_that_confidence_drives_agree_and_at_fixed_confidence_do_not(tmp_path: Path) -> None:
    drive = np.random.default_rng(0).permutation(15).reshape(5, 3)
    own = np.random.default_rng(5).normal(0, 1.5, (2, 5, 3))
    columns: dict[str, Column] = {
        "confidence": lambda a, r: float(drive[a, r]),
        "metric": lambda a, r: float(drive[a, r] + own[0, a, r]),
        "distance": lambda a, r: float(drive[a, r] + own[1, a, r]),
    }
    rows = points(columns)
    whole, partial = judged(tmp_path, rows), judged(tmp_path, rows, "partial")
    assert whole["verdict"] == "supported"
    assert whole["estimate"] > 0.8
    assert abs(partial["estimate"]) < 0.3
    assert partial["verdict"] == "inconclusive"
    assert [len(of) for of in partial["networks"].values()] == [15, 15, 15]


def test_points_that_lack_one_of_the_quantities_are_left_out(tmp_path: Path) -> None:
    rows = points({**RECIPES_CARRY, "confidence": lambda a, r: float(a * r)})
    lacking = (rows["architecture"] == "two") & (rows["arm"] == "gauss")
    without = rows[~(lacking & (rows["quantity"] == "confidence"))]
    assert (judged(tmp_path, without)["n"], judged(tmp_path, without, "partial")["n"]) == (15, 14)
    assert judged(tmp_path, rows[rows["quantity"] != "confidence"], "partial")["verdict"] == "not run (confidence not measured)"


def test_a_coefficient_that_there_is_not_is_refused() -> None:
    with pytest.raises(BadInput, match="method='pearsen' of a correlation is not allowed; did you mean 'pearson'"):
        Correlation("x", "y", method="pearsen")
    with pytest.raises(BadInput, match="a correlation at a fixed third quantity is one of ranks, spearman"):
        Correlation("x", "y", method="pearson", given="z")
