"""Figures of transfer and of accuracy against alpha, from planted rows: what is where."""

import pandas as pd
import pytest
from drawing import assert_on_page, row, words

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.findings.entanglement.figures import transfers
from reprolib.judging.tidy import rounded

N = 40
RATES = {("standard", "standard"): 0.5, ("standard", "entangled"): 0.8, ("entangled", "standard"): 0.2, ("entangled", "entangled"): 0.3}


def planted(mine=False):
    """Three networks an arm: every one is fooled on the first 32 of 40 images, others on a share of these that its pair of arms tells."""
    rows = []
    for source in ("standard", "entangled", *(["mine"] if mine else [])):
        for seed in range(1 if source == "mine" else 3):
            rows.append(row("ENT-6", "white_box", source, seed, "all", "", 0.8 + 0.01 * seed))
            rows.append(row("ENT-6", "eps", source, seed, "all", "", 1.25))
            for target, other in ((arm, k) for arm in ("standard", "entangled") for k in range(3) if k != seed or source == "mine"):
                share = RATES.get((source, target), 0.9)
                for unit in range(N):
                    of_image = row("ENT-6", "transferred", source, seed, f"{unit:05d}", f"{target}:{other}", unit < 32 * share)
                    rows.append(of_image | {"reached": unit < 32})
    return rounded(pd.DataFrame(rows))


def accuracies():
    """Networks of four alphas and a robust one; alpha -.1 and 0 have one that alpha was chosen by."""
    recipes = {"standard": ("std", 0.9), "entangled": ("snnl_m003", 0.8), "disentangled": ("snnl_p003", 0.7), "robust": ("l2_05", 0.6)}
    rows = []
    for arm, (recipe, level) in recipes.items():
        for seed in (0, 1):
            for claim, quantity, of in (
                ("ENT-2", "correct", 1),
                ("ENT-11", "adversarial_correct", 0.5),
                ("ENT-11", "adversarial_correct@half", 0.75),
            ):
                if arm != "robust" or quantity == "adversarial_correct":
                    rows += [row(claim, quantity, arm, seed, f"{k:05d}", "", k < 100 * of * level, recipe) for k in range(100)]
    for arm, recipe, seed in (("standard", "std_choice", 9), ("entangled", "snnl_m01_choice", 9)):
        chosen = [
            row("ENT-2", name, arm, seed, "all", "", value, recipe)
            for name, value in (("choice_correct", 0.65), ("choice_adversarial_correct", 0.15))
        ]
        rows += [one | {"network": recipe} for one in chosen]
    return rounded(pd.DataFrame(rows))


def test_the_matrix_holds_each_pairs_rate_its_own_on_the_diagonal_and_nothing_for_one_seed():
    figure = transfers.transfer(planted())
    assert_on_page(figure)
    left = figure.axes[0]
    cells = {
        (round(text.get_position()[1]), round(text.get_position()[0])): (text.get_text(), text.get_fontweight()) for text in left.texts
    }
    assert [label.get_text() for label in left.get_yticklabels()] == [
        f"{arm} {k}\neps 1.2" for arm in ("standard", "entangled") for k in range(3)
    ]
    assert len(cells) == 36 - 6
    assert {cells[k, k] for k in range(6)} == {("80", "bold"), ("81", "bold"), ("82", "bold")}
    assert cells[0, 1] == ("50", "normal")
    assert cells[0, 4] == ("81", "normal")  # 26 of the 32 that fooled their own
    assert cells[4, 0] == ("22", "normal")
    assert (0, 3) not in cells


def test_each_kind_of_pair_has_its_rate_its_pairs_and_those_made_for_the_network_itself():
    figure = transfers.transfer(planted())
    right = figure.axes[1]
    means = [collection.get_segments()[0][0][1] for collection in right.collections if len(set(collection.get_segments()[0][:, 1])) == 1]
    assert means == pytest.approx([0.5, 26 / 32, 7 / 32, 10 / 32], abs=1e-6)
    diamonds = {line.get_markeredgecolor(): sorted(line.get_ydata()) for line in right.lines if line.get_marker() == "D"}
    assert diamonds == {style.role(arm).colour: pytest.approx([0.8, 0.81, 0.82]) for arm in ("standard", "entangled")}
    assert [len(line.get_ydata()) for line in right.lines if line.get_marker() != "D"] == [
        3,
        6,
        6,
        3,
    ]  # both directions of an arm are one pair
    found = transfers.rate(planted(), "standard", "entangled")
    assert found.low < found.estimate < found.high


def test_the_readers_network_has_a_row_of_its_own_and_an_arm_that_is_not_there_is_left_out():
    with_mine = transfers.transfer(planted(mine=True))
    assert [label.get_text() for label in with_mine.axes[0].get_yticklabels()][-1] == "mine 0\neps 1.2"
    assert len(with_mine.axes[0].get_xticklabels()) == 6
    rows = planted()
    alone = transfers.transfer(rows[(rows["arm"] == "standard") & ~rows["unit_2"].str.startswith("entangled")])
    assert len([c for c in alone.axes[1].collections if len(set(c.get_segments()[0][:, 1])) == 1]) == 1
    with pytest.raises(BadInput, match="no rows of claim 'ENT-6'"):
        transfers.transfer(rows[rows["claim"] != "ENT-6"])


def test_accuracies_stand_at_their_alpha_and_those_it_was_chosen_by_are_hollow():
    figure = transfers.against_alpha(accuracies())
    assert_on_page(figure)
    assert [ax.get_title(loc="left") for ax in figure.axes] == [*transfers.PANELS]
    for ax, of in zip(figure.axes, (1, 0.75, 0.5), strict=True):
        assert [label.get_text() for label in ax.get_xticklabels()] == ["-0.1", "-0.03", "0", "0.03", "robust"]
        full = {line.get_color(): line for line in ax.lines if len(line.get_xdata()) and line.get_color() != "none"}
        for arm, at, level in (("entangled", 1, 0.8), ("standard", 2, 0.9), ("disentangled", 3, 0.7)):
            line = full[style.role(arm).colour]
            assert line.get_xdata().mean() == pytest.approx(at)
            assert line.get_ydata().tolist() == pytest.approx([of * level] * 2, abs=0.01)
        assert (style.role("robust").colour in full) == (of == 0.5)
        hollow = {
            line.get_markeredgecolor(): (line.get_xdata()[0], line.get_ydata()[0])
            for line in ax.lines
            if line.get_color() == "none" and len(line.get_xdata())
        }
        there = {1: 0.65, 0.5: 0.15}.get(of)
        wanted = {style.role(arm).colour: (at, there) for arm, at in (("standard", 2), ("entangled", 0))}
        assert hollow == ({} if there is None else wanted)
    assert "alpha was chosen by" in words(figure)


def test_without_accuracies_it_says_what_is_missing_and_without_an_attack_it_draws_one_panel():
    rows = accuracies()
    with pytest.raises(BadInput, match="no rows of claim 'ENT-2'"):
        transfers.against_alpha(rows[rows["claim"] != "ENT-2"])
    assert len(transfers.against_alpha(rows[rows["claim"] == "ENT-2"]).axes) == 1
