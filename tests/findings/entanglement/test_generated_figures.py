"""Figures of the toy and of generators, from planted paths and rows."""

import pandas as pd
import pytest
import torch
from drawing import assert_on_page, row, words

from reprolib.errors import BadInput
from reprolib.findings.entanglement import figures, generators
from reprolib.findings.entanglement.figures.generated import LOOKS
from reprolib.findings.entanglement.toy import Path

STEPS = ("00000", "00500", "01000", "01500", "02000")


def planted():
    rows = []
    for arm in generators.SETTINGS:
        for seed in (0, 1):
            for k, step in enumerate(STEPS):
                high = 0.1 * k if arm == "collapsing" else 0.2 * k
                rows.append(row("ENT-8", "real_fake_by_step", arm, seed, step, "", high + 0.1 * seed))
                rows.append(row("ENT-8", "modes_by_step", arm, seed, step, "", 1 if arm == "collapsing" else 2 * k))
                for axis in ("x", "y") if not seed else ():
                    rows += [row("ENT-8", f"sample_{axis}", arm, seed, f"{point:03d}", step, 0.01 * point) for point in range(5)]
    return pd.DataFrame(rows)


def test_generators_have_a_thick_line_at_the_mean_of_their_seeds_and_the_bound_is_dotted():
    figure = figures.generators(planted())
    assert_on_page(figure)
    upper, lower = figure.axes[:2]
    thick = {line.get_color(): line for line in upper.lines if line.get_linewidth() > 1.5}
    assert set(thick) == {colour for colour, *_ in LOOKS.values()}
    assert thick[LOOKS["collapsing"][0]].get_ydata().tolist() == pytest.approx([0.05, 0.15, 0.25, 0.35, 0.45])
    assert thick[LOOKS["healthy"][0]].get_xdata().tolist() == [0, 500, 1000, 1500, 2000]
    assert [set(ax.lines[-1].get_ydata()) for ax in (upper, lower)] == [{1}, {8}]
    assert sum(line.get_linewidth() < 1 for line in upper.lines) == 2 * 4


def test_the_last_four_looks_are_pictured_with_eight_circles_each():
    figure = figures.generators(planted())
    pictures = figure.axes[2:]
    assert len(pictures) == 4 * 4
    assert {text for text in words(figure) if text.startswith("step ")} == {"step 500", "step 1000", "step 1500", "step 2000"}
    assert all(len(ax.lines) == 8 + 1 and len(ax.lines[-1].get_xdata()) == 5 for ax in pictures)


def test_arms_that_are_not_there_are_left_out():
    rows = planted()
    figure = figures.generators(rows[rows["arm"] != "deep"])
    assert "deeper" not in words(figure)
    assert len(figure.axes) == 2 + 3 * 4


def test_generators_without_rows_say_what_is_missing():
    with pytest.raises(BadInput, match="no rows of claim 'ENT-8'"):
        figures.generators(planted().assign(claim="ENT-1"))


def test_the_toy_has_a_row_for_each_direction_and_tells_entanglement_and_spread():
    frames, y = torch.randn(3, 20, 2, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 4
    paths = [
        Path(frames * (1 + k), y, (1.0, 0.5, 0.25), (1.0, 2.0, 13.0), (0, 20, 100), is_entangling, temperature)
        for k, (temperature, is_entangling) in enumerate([(1.0, False), (1.0, True), (None, False), (None, True)])
    ]
    figure = figures.toy(paths)
    assert_on_page(figure)
    assert len(figure.axes) == 12
    assert all(sum(len(line.get_xdata()) for line in ax.lines) == 20 for ax in figure.axes)
    told = words(figure)
    assert sum("step 100: 0.25" in text for text in told) == 4
    assert f"loss 13.00, spread {4 * float(frames[2].std(dim=0, correction=0).mean()):.1f}" in told
