"""The figures of block structure from planted matrices: what is drawn is what was planted, and nothing is drawn of what is not there."""

import functools

import numpy as np
import pandas as pd
import pytest
from drawing import dots

from reprolib.errors import BadInput
from reprolib.figures import style
from reprolib.findings.block_structure import figures as plots
from reprolib.findings.block_structure import hsic_rows
from reprolib.findings.block_structure.figures.layered import between, curves, edges, epochs_of, matrices
from reprolib.findings.block_structure.networks import layers_of
from reprolib.measures import indices
from reprolib.measures.cka import BatchHSIC

L = 14
RECIPES = {
    "standard": "std",
    "robust": "l2_15",
    "robust_small": "l2_075",
    "robust_large": "l2_3",
    "untrained": "untrained",
    "gauss": "gauss_20",
}
MEANS = {"standard": 0.4, "robust": 0.6, "untrained": 0.9, "gauss": 0.45, "robust_small": 0.5, "robust_large": 0.7}


def key(arm, seed):
    return f"{arm}{seed}".encode().hex().rjust(12, "0")[-12:]


def matrix(mean):
    """Similarity falls with distance, to `mean` on the whole."""
    lag = np.abs(np.subtract.outer(np.arange(L), np.arange(L)))
    c = 1 - lag / L
    return np.where(lag == 0, 1, c + mean - indices.off_diagonal_mean(c))


def hsic(c, n=4):
    """HSICs of n equal batches whose CKA is c."""
    own = np.ones((n, len(c)))
    return BatchHSIC(np.full(n, 20), np.repeat(c[None], n, axis=0), own, own, ("",) * n)


def tidy(claim, quantity, arm, seed, table, architecture="pool"):
    who = {"recipe": RECIPES[arm], "architecture": architecture, "seed": seed, "network": key(arm, seed)}
    return table.assign(claim=claim, quantity=quantity, arm=arm, reached=True, **who)


def whole(values):
    return pd.DataFrame({"unit": "all", "unit_2": [*values], "value": [*values.values()]})


def alone(claim="BLK-1", arms=("standard", "robust", "untrained"), seeds=(0, 1), quantity="hsic"):
    return [
        tidy(claim, quantity, arm, seed, hsic_rows.of_network(hsic(matrix(MEANS[arm] + 0.02 * seed))))
        for arm in arms
        for seed in (seeds if arm in ("standard", "robust") else seeds[:1])
    ]


def pairs(level=0.3):
    kinds = [("standard", 0, "robust", 1), ("standard", 1, "robust", 0), ("standard", 0, "standard", 1), ("robust", 0, "robust", 1)]
    return [
        tidy("BLK-1", "hsic_pair", a, s, hsic_rows.of_pair(hsic(matrix(level) - (1 - level) * np.eye(L)), key(b, r)))
        for a, s, b, r in kinds
    ]


def states(claim, curve_of, names, arms=("standard", "robust"), seeds=(0, 1)):
    """CKA at equal depth of every pair of states: curve_of(arm, a, b) (L,)."""
    return [
        tidy(claim, "hsic_states", arm, seed, hsic_rows.of_states({(a, b): hsic(np.diag(curve_of(arm, a, b))) for a, b in names}))
        for arm in arms
        for seed in seeds
    ]


@pytest.fixture(scope="module")
def rows():
    frames = [*alone(), *alone("BLK-10", (*MEANS,)), *pairs()]
    frames += [frame for quantity in ("hsic@without_pc1", "hsic@without_top_points") for frame in alone(quantity=quantity)]
    for quantity, share in (("pc1_share", 0.3), ("top_points_share", 0.05)):
        table = pd.DataFrame(
            {"unit": ["batch 000"] * L, "unit_2": [str(i) for i in range(L)], "value": [share + 0.01 * i for i in range(L)]}
        )
        frames += [tidy("BLK-1", quantity, arm, seed, table) for arm in ("standard", "robust") for seed in (0, 1)]
    falling = {"standard": np.linspace(1, 0.2, L), "robust": np.linspace(1, 0.9, L)}
    frames += states("BLK-6", lambda arm, a, b: falling[arm], [("clean", kind) for kind in ("adversarial", "noise", "equal_success")])
    success = {"adversarial": 0.9, "noise": 0.0, "equal_success": 0.4}
    frames += [tidy("BLK-6", "attack_success", arm, 0, whole(success)) for arm in ("standard", "robust")]
    epochs = [(f"epoch_{t}", "epoch_3") for t in range(3)]
    frames += states("BLK-7", lambda arm, a, b: np.full(L, 0.2 + 0.2 * int(a[-1])), epochs)
    frames += states("BLK-5", lambda arm, a, b: falling[arm], [("best", "last"), ("before_1", "before_2")], seeds=(0,))
    frames.append(tidy("BLK-5", "epochs", "robust", 0, whole({"best": 30, "last": 80, "before_1": 1, "before_2": 30})))
    frames += [
        tidy(
            "shown",
            "off_diagonal_mean_by_n",
            arm,
            0,
            whole({f"{kind}|{n}": v for kind, v in (("biased", 0.9), ("unbiased", 0.5)) for n in (50, 1000)}),
        )
        for arm in ("standard", "robust")
    ]
    drawn = whole({"biased|32": 0.97, "unbiased|32": 0.0})
    frames.append(
        drawn.assign(
            claim="shown",
            quantity="gaussian_cka",
            arm="judge",
            recipe="none",
            architecture="gaussian",
            seed=0,
            network="pixels",
            reached=True,
        )
    )
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def drawn(rows):
    """The figure of a name, drawn once."""
    return functools.cache(lambda name: getattr(plots, name)(rows))


NAMES = ("maps", "dominance", "lags", "index_panel", "radii", "same_depth", "adversarial", "settling", "overfitting", "bias")


@pytest.mark.parametrize("name", NAMES)
def test_it_is_drawn_inside_the_page_and_alike_in_whatever_order_rows_come(name, rows, drawn):
    figure = drawn(name)
    ink = figure.get_tightbbox()
    assert min(ink.x0, ink.y0) > -0.05
    assert ink.x1 < figure.get_figwidth() + 0.05
    assert ink.y1 < figure.get_figheight() + 0.05
    assert style.png_bytes(figure, 40) == style.png_bytes(getattr(plots, name)(rows.sample(frac=1, random_state=1)), 40)


def test_matrices_pairs_and_curves_come_back_from_rows_in_the_order_of_the_arms(rows):
    found = matrices(rows, "BLK-1")
    assert [(one.arm, one.seed) for one in found] == [("standard", 0), ("standard", 1), ("robust", 0), ("robust", 1), ("untrained", 0)]
    assert np.allclose(found[2].values, matrix(0.6))
    across = between(rows)
    assert {(one.arm, one.seed, *one.partner) for one in across if one.partner[0] != one.arm} == {
        ("standard", 0, "robust", 1),
        ("standard", 1, "robust", 0),
    }
    assert curves(rows, "BLK-6", ("clean", "adversarial"))[0].values == pytest.approx(np.linspace(1, 0.2, L))
    assert epochs_of(rows, "BLK-7") == [0, 1, 2, 3]
    assert curves(rows, "BLK-4", ("a", "b")) == between(rows[rows["quantity"] != "hsic_pair"]) == epochs_of(rows, "BLK-2") == []


def test_all_maps_share_one_scale_and_stages_are_set_apart(drawn):
    figure = drawn("maps")
    shown = [ax.images[0] for ax in figure.axes if ax.images]
    assert len(shown) == 3  # no noise-trained network among the deep ones
    assert {image.get_clim() for image in shown} == {(0.0, 1.0)}
    assert np.allclose(shown[1].get_array(), matrix(0.6))
    assert edges("pool", L) == [0.5, 4.5, 8.5, 12.5]
    assert layers_of("pool")[0] == "stem"
    titles = [ax.get_title(loc="center") for ax in figure.axes[:4]]
    assert "mean 0.60" in titles[1]


def test_the_line_over_lags_is_the_mean_over_seeds(drawn):
    ax = drawn("lags").axes[0]
    lines = {line.get_label(): line for line in ax.lines}
    expected = np.mean([indices.mean_by_lag(matrix(0.6 + 0.02 * seed)) for seed in (0, 1)], axis=0)
    assert np.allclose(lines["robust"].get_ydata(), expected, atol=1e-6)
    assert list(lines["robust"].get_xdata()) == list(range(1, L))
    assert "noise-trained" in lines
    assert "robust, large eps" not in lines


def test_the_index_panel_has_a_dot_per_network_and_the_papers_numbers_beside_its_arms(drawn):
    axes = drawn("index_panel").axes
    assert [ax.get_title(loc="center").split("\n")[0] for ax in axes] == [
        "off-diagonal mean",
        "stage contrast",
        "longest run",
        "effective rank",
    ]
    heights = [y for _, y, *_ in dots(axes[0])]
    assert {round(float(y), 2) for y in heights} >= {0.4, 0.42, 0.6, 0.62}
    dashes = [segment[0][1] for part in axes[0].collections if hasattr(part, "get_segments") for segment in part.get_segments()]
    assert {0.507, 0.698} <= {round(float(y), 3) for y in dashes}


def test_controls_of_another_architecture_get_a_panel_of_their_own(rows):
    shallow = rows.assign(architecture=rows["architecture"].where(rows["claim"] != "BLK-10", "w8"))
    assert len(plots.index_panel(rows[rows["claim"] != "BLK-10"]).axes) == 4
    *deep, last = plots.index_panel(shallow).axes
    assert len(deep) == 4
    assert "w8" in last.get_title(loc="center")
    kinds = [label.get_text().replace("\n", " ") for label in last.get_xticklabels()]
    assert kinds == [style.role(arm).label for arm in style.in_order({*MEANS}) if not arm.startswith("robust_")]
    assert len(deep[0].get_xticklabels()) == 3
    with_arms_only = shallow[(shallow["claim"] != "BLK-10") | shallow["arm"].isin(["standard", "robust"])]
    assert len(plots.index_panel(with_arms_only).axes) == 4


def test_the_trend_is_dotted_beyond_what_is_tested(rows, drawn):
    figure = drawn("radii")
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0", "0.75", "1.5", "3"]
    solid, dotted = figure.axes[0].lines[:2]
    assert list(solid.get_xdata()) == [0, 0.75, 1.5]
    assert list(dotted.get_xdata()) == [1.5, 3]
    with pytest.raises(BadInput, match="at least two training radii"):
        plots.radii(rows[rows["arm"] == "standard"])


def test_attack_success_stands_above_the_curves(drawn):
    left, right = drawn("adversarial").axes[:2]
    assert left.get_title(loc="left").endswith("succeeds: standard 90%, robust 90%")
    assert right.get_title(loc="left").endswith("succeeds: standard 40%, robust 40%")
    assert [list(line.get_ydata())[-1] for line in right.lines[:2]] == pytest.approx([0.2, 0.9])


def test_the_mean_over_training_counts_the_last_epoch_as_itself(drawn):
    last = drawn("settling").axes
    courses = [ax for ax in last if ax.get_title(loc="center") == "mean over training"]
    expected = np.trapezoid([0.2, 0.4, 0.6, 1.0], [0, 1, 2, 3]) / 3
    assert courses[0].lines[0].get_ydata() == pytest.approx([expected] * L)


def test_two_states_of_one_network_are_drawn_as_change(drawn):
    ax = drawn("overfitting").axes[0]
    assert ax.lines[0].get_ydata() == pytest.approx(1 - np.linspace(1, 0.2, L))
    assert "best 30, last 80, before 1 to 30" in ax.get_title(loc="left")


@pytest.mark.parametrize(
    ("name", "gone", "sentence"),
    [
        ("same_depth", "hsic_pair", "no rows of pairs of networks of different seeds"),
        ("adversarial", "hsic_states", "no rows of clean against adversarial images"),
        ("settling", "hsic_states", "rows of 0 epochs"),
        ("overfitting", "hsic_states", "the pair of networks that overfits was not measured"),
        ("bias", "gaussian_cka", "no rows of 'gaussian_cka'"),
        ("maps", "hsic", "no rows of 'hsic'"),
    ],
)
def test_what_was_not_measured_is_named(name, gone, sentence, rows):
    with pytest.raises(BadInput, match=sentence):
        getattr(plots, name)(rows[rows["quantity"] != gone])


def test_layers_of_two_architectures_do_not_share_an_axis(rows):
    mixed = pd.concat([rows, tidy("BLK-1", "hsic", "gauss", 3, hsic_rows.of_network(hsic(matrix(0.5))), "net14")])
    with pytest.raises(BadInput, match="layers of net14, pool cannot share an axis"):
        plots.lags(mixed)


def test_other_layers_than_the_architectures_are_drawn_without_stages():
    few = np.where(np.eye(3, dtype=bool), 1.0, 0.5)
    rows = pd.concat([tidy("BLK-1", "hsic", arm, 0, hsic_rows.of_network(hsic(few))) for arm in ("standard", "robust", "untrained")])
    assert [ax.images[0].get_array().shape for ax in plots.maps(rows).axes if ax.images][:3] == [(3, 3)] * 3
    assert plots.lags(rows).axes


def test_a_readers_own_network_of_another_depth_is_drawn_beside_the_arms():
    deeper = hsic_rows.of_network(hsic(np.kron(matrix(0.6), np.ones((2, 2)))))
    who = {"arm": "mine", "recipe": "mine", "architecture": "theirs", "seed": 0, "network": "m" * 12, "reached": True}
    rows = pd.concat([*alone(), deeper.assign(claim="BLK-1", quantity="hsic", **who)], ignore_index=True)
    maps, lags, panel = plots.maps(rows), plots.lags(rows), plots.index_panel(rows)
    assert [ax.images[0].get_array().shape[0] for ax in maps.axes[:4]] == [L, L, 2 * L, L]
    assert maps.axes[2].get_title(loc="center").startswith("mine\nmean ")
    (line,) = (line for line in lags.axes[0].lines if line.get_label() == "mine")
    assert line.get_xdata().tolist() == list(range(1, 2 * L))
    assert [label.get_text() for label in panel.axes[0].get_xticklabels()] == ["standard", "robust", "untrained", "mine"]
