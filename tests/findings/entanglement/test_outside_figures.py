"""Figures of alarms and of support from planted rows: what stands in which panel, the numbers printed, sets and arms that are absent."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from reprolib.errors import BadInput
from reprolib.findings.entanglement.figures import alarms, support

SETS = ("id", "outlier", "texture", "fashion", "adversarial")
LAYERS = ("stem", "stage1.block1.relu1", "pooled")


def planted(arms: tuple[str, ...] = ("standard", "entangled"), sets: tuple[str, ...] = SETS) -> pd.DataFrame:
    rows = []
    for at, arm in enumerate(arms):
        for seed in (0, 1):
            base: dict[str, object] = {"claim": "ENT-5", "arm": arm, "seed": seed, "network": f"{arm}{seed}", "unit_2": "", "reached": True}

            def add(quantity: str, unit: str, value: float, unit_2: str = "", base: dict[str, object] = base) -> None:
                rows.append(base | {"quantity": quantity, "unit": unit, "unit_2": unit_2, "value": value})

            for k, name in enumerate(sets):
                for score in ("credibility", "softmax"):
                    for bin_ in range(20):
                        add(f"{score}_histogram@{name}", f"{bin_:02d}", float(bin_ == 3 * k + at) / 2 + 0.025)
                    if name != "id":
                        add(f"auroc_{score}@{name}", "all", 0.5 + 0.1 * k + 0.01 * at + 0.002 * seed + 0.05 * (score == "softmax"))
                for place, layer in enumerate(LAYERS):
                    if name != "id":
                        add(f"support_auroc_by_layer@{name}", layer, 0.6 + 0.05 * k + 0.1 * place + 0.01 * seed, f"{place:02d}")
                    for bin_ in range(15 if seed == 0 else 0):
                        add(f"support_histogram@{name}", layer, float(bin_ == k + 2 * place), f"{bin_:02d}")
            add("ece", "all", 0.1 + 0.02 * seed)
            for bin_, n in ((3, 0), (9, 30), (14, 70)):
                add("bin_count", f"{bin_:02d}", n)
                if n:
                    add("bin_confidence", f"{bin_:02d}", (bin_ + 0.5) / 15)
                    add("bin_accuracy", f"{bin_:02d}", 0.4)
    return pd.DataFrame(rows)


def texts(figure: Figure, k: int) -> list[str]:
    return [one.get_text() for one in figure.axes[k].texts]


def test_alarms_have_a_row_an_arm_and_print_the_means_of_aurocs() -> None:
    figure = alarms(planted())
    assert len(figure.axes) == 6
    assert [ax.get_title(loc="left") for ax in figure.axes[::3]] == ["standard", "entangled"]
    assert texts(figure, 0) == ["AUROC", "0.60", "0.70", "0.80", "0.90"]
    assert texts(figure, 4) == ["AUROC", "0.66", "0.76", "0.86", "0.96"]
    assert texts(figure, 2) == ["ECE 0.110"]
    shares = figure.axes[3].patches[1].get_data().values  # type: ignore[attr-defined]
    np.testing.assert_allclose(shares, [0.525 if k == 4 else 0.025 for k in range(20)])
    dots = figure.axes[2].collections[0]
    assert dots.get_offsets().data.tolist() == 2 * [[pytest.approx(9.5 / 15), 0.4], [pytest.approx(14.5 / 15), 0.4]]  # type: ignore[union-attr]
    small, large = dots.get_sizes()[:2]  # type: ignore[attr-defined]
    assert large - 4 == pytest.approx(7 / 3 * (small - 4))
    assert [one.get_text() for one in figure.legends[0].get_texts()] == ["ordinary", "outliers", "textures", "clothes", "adversarial"]


def test_support_shows_three_layers_in_order_with_their_own_aurocs() -> None:
    figure = support(planted())
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        *("standard, stem", "standard, 1.1.1", "standard, pooled"),
        *("entangled, stem", "entangled, 1.1.1", "entangled, pooled"), "AUROC, outliers, by layer",
    ]  # fmt: skip
    assert texts(figure, 1) == ["AUROC", "0.75", "0.80", "0.85", "0.90"]  # of seed 0, whose histograms these are
    assert figure.axes[2].patches[0].get_data().values.tolist() == [float(k == 4) for k in range(15)]  # type: ignore[attr-defined]
    lines = [line for line in figure.axes[-1].lines if len(line.get_xdata()) == 3]  # type: ignore[arg-type]
    assert len(lines) == 4
    assert lines[0].get_ydata().tolist() == pytest.approx([0.65, 0.75, 0.85])  # type: ignore[union-attr]


@pytest.mark.parametrize("draw", [alarms, support])
def test_sets_and_arms_that_are_absent_are_left_out(draw: object) -> None:
    figure = draw(planted(("standard", "untrained"), ("id", "outlier")))  # type: ignore[operator]
    assert len(figure.axes) == (3 if draw is alarms else 4)
    assert texts(figure, 0)[1:] == (["0.60"] if draw is alarms else ["0.65"])
    with pytest.raises(BadInput, match=r"there are no rows of .*standard or entangled networks: measure them first"):
        draw(planted(("untrained",)))  # type: ignore[operator]
    with pytest.raises(BadInput, match="there are no rows of claim 'ENT-5'"):
        draw(planted().assign(claim="ENT-6"))  # type: ignore[operator]
