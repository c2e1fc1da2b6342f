"""Batch HSICs with planted similarities give every verdict of block structure's claims, and what does not fit is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hsic_planting import (
    L,
    alone,
    as_rows,
    control_family,
    depth_family,
    good_cards,
    hsic_of,
    line,
    matrix,
    pairs,
    states,
)
from planting import judge, judge_finding, network, together

from reprolib import store
from reprolib.errors import BadInput
from reprolib.findings.block_structure import hsic_rows
from reprolib.findings.block_structure.networks import stages_of
from reprolib.judging.audit import audit, both_answers
from reprolib.judging.ledger import claims_sha256
from reprolib.judging.tidy import read_rows, write_rows
from reprolib.measures import indices
from reprolib.measures.cka import BatchHSIC


def near(level: float) -> list[float]:
    """Three networks of about that level."""
    return [level, level + 0.01, level + 0.005]


CARDS = good_cards()
DEPTH, CONTROLS = depth_family(), control_family()
LOW = {"standard": near(0.6), "robust": near(0.4)}
SAME = {"standard": near(0.5), "robust": near(0.5)}
SCATTERED = {"standard": [0.4, 0.55, 0.45], "robust": near(0.65)}
STEEP, FLAT, RISING = {"standard": 0.3, "robust": 0.1}, {"standard": 0.3, "robust": 0.3}, {"standard": 0.1, "robust": 0.3}
NO_EFFECT = {"standard": near(0.4), "robust": near(0.4)}


def overfitting(robust: Sequence[float], standard: float = 0.0, before: float = 0.0, fitted: float = 1.0) -> pd.DataFrame:
    """Slopes over depth of 1 - CKA(best, last) of each robust seed, and about that of standard ones; before: of the robust arm's earlier pair."""

    def course(slope: float, before: float) -> dict[tuple[str, str], Any]:
        return {("best", "last"): line(0.9, 0.9 - slope), ("before_1", "before_2"): line(0.9, 0.9 - before)}

    curves = {"standard": [course(slope, 0.0) for slope in near(standard)], "robust": [course(slope, before) for slope in robust]}
    frames = [states("BLK-5", curves)]
    for seed in range(3):
        table = pd.DataFrame({"unit": ["train"], "unit_2": ["last"], "value": [fitted]})
        frames.append(as_rows("overfitting", "train_accuracy", "standard", seed, table))
        table = pd.DataFrame({"unit": ["test"] * 2, "unit_2": ["best", "last"], "value": [0.4, 0.3]})
        frames.append(as_rows("overfitting", "adversarial_accuracy", "robust", seed, table))
    return together(*frames)


def moved(standard: float, robust: float, gauss: float | None = None, kind: str = "equal_success") -> pd.DataFrame:
    """Similarity of adversarial to clean features; control networks like standard ones, gauss as told, under BLK-10."""
    pair = ("clean", kind)
    levels = {"standard": standard, "robust": robust}
    beside = levels | dict.fromkeys(("untrained", "gauss", "blur", "std_matched"), standard) | ({} if gauss is None else {"gauss": gauss})

    def curves(of: Mapping[str, float]) -> dict[str, list[dict[tuple[str, str], Any]]]:
        return {arm: [{pair: line(1.0, 1.0) * value} for value in near(level)] for arm, level in of.items()}

    return together(states("BLK-6", curves(levels)), states("BLK-10", curves(beside)))


def settling(standard: float, robust: float, start: Sequence[float] = (0.2, 0.2)) -> pd.DataFrame:
    """Networks that settle linearly over epochs 0 to 4, by a share of the way that falls by that much with depth; start: C_0 by depth.

    The area over time: trapezoids over shares (0, s, s, s, 1) are 3 s / 4 + 1/8.
    """
    c0 = line(*start)

    def course(slope: float) -> dict[tuple[str, str], Any]:
        share = line(0.6 - slope / 2, 0.6 + slope / 2)
        return {(f"epoch_{epoch}", "epoch_4"): c0 + (share if epoch else 0) * (1 - c0) for epoch in range(4)}

    return states("BLK-7", {arm: [course(slope) for slope in near(level)] for arm, level in (("standard", standard), ("robust", robust))})


CASES: list[tuple[str, str, pd.DataFrame]] = [
    ("BLK-1", "supported, specific", together(DEPTH, CONTROLS)),
    ("BLK-1", "contradicted, specific", together(depth_family(LOW, RISING), control_family(near(0.2)))),
    ("BLK-1", "inconclusive (check BLK-9)", together(depth_family(without={"without_pc1": NO_EFFECT}), CONTROLS)),
    ("BLK-1", "inconclusive (check BLK-9)", together(DEPTH[~DEPTH["quantity"].str.endswith("without_pc1")], CONTROLS)),
    ("BLK-1", "inconclusive (check BLK-9)", together(DEPTH[~DEPTH["quantity"].str.endswith("_shuffled")], CONTROLS)),
    ("BLK-1", "supported, not specific (untrained 109 %, noise-trained 109 %, blur-trained 109 %, accuracy-matched 109 %)",
     together(DEPTH, control_family(control=near(0.618)))),
    ("BLK-1", "negligible", together(depth_family(SAME), CONTROLS)),
    ("BLK-1", "inconclusive", together(depth_family(SCATTERED), CONTROLS)),
    ("BLK-1", "not run (hsic not measured)", CONTROLS),
    ("BLK-2", "supported, specific", together(DEPTH, CONTROLS)),
    ("BLK-2", "supported, specific", together(depth_family(without={"procrustes": NO_EFFECT}), CONTROLS)),  # no check of BLK-2
    ("BLK-3", "supported, specific", together(DEPTH, CONTROLS)),
    ("BLK-3", "contradicted, specific", together(depth_family(contrasts=RISING), control_family(contrast=0.5))),
    ("BLK-3", "negligible", together(depth_family(contrasts=FLAT), CONTROLS)),
    ("BLK-4", "supported, open (noise-trained, blur-trained, accuracy-matched)", together(DEPTH, CONTROLS)),
    ("BLK-4", "contradicted, open (noise-trained, blur-trained, accuracy-matched)", together(depth_family(similar=(0.8, 0.3, 0.4)), CONTROLS)),
    ("BLK-4", "contradicted, open (noise-trained, blur-trained, accuracy-matched)", together(depth_family(similar=(0.5, 0.7, 0.3)), CONTROLS)),
    ("BLK-4", "inconclusive (check BLK-9)", together(depth_family(similar_without={"without_top_points": (0.7, 0.7, 0.71)}), CONTROLS)),
    ("BLK-4", "negligible", together(depth_family(similar=(0.7, 0.7, 0.7)), CONTROLS)),
    ("BLK-4", "not run (robust and robust of different seeds not measured)",
     DEPTH[~((DEPTH["quantity"] == "hsic_pair") & (DEPTH["arm"] == "robust"))]),
    ("BLK-5", "supported", overfitting(near(0.3))),
    ("BLK-5", "contradicted", overfitting(near(-0.08), 0.3)),
    ("BLK-5", "inconclusive (check overfitted)", overfitting(near(0.3), fitted=0.97)),
    ("BLK-5", "inconclusive (check overfitted)", overfitting(near(0.3)).query("claim != 'overfitting'")),
    ("BLK-5", "negligible", overfitting(near(0.3), before=0.3)),  # as steep before
    ("BLK-5", "inconclusive", overfitting([0.1, 0.25, 0.4])),
    ("BLK-6", "supported, specific", moved(0.5, 0.9)),
    ("BLK-6", "supported, not specific (noise-trained 112 %)", moved(0.5, 0.9, 0.95)),
    ("BLK-6", "contradicted, specific", moved(0.7, 0.5)),
    ("BLK-6", "contradicted, specific", moved(0.5, 0.7)),  # more than the standard one, and not above .8
    ("BLK-6", "negligible", moved(0.9, 0.9)),
    ("BLK-6", "not run (clean with equal_success not measured)", moved(0.5, 0.9, kind="adversarial")),
    ("BLK-7", "supported", settling(-0.3, -0.2)),
    ("BLK-7", "contradicted", settling(0.3, 0.2)),
    ("BLK-7", "negligible", settling(-0.3, 0.0)),
    ("BLK-8", "supported", CONTROLS),
    ("BLK-8", "contradicted", control_family(near(0.2), small=near(0.3))),
    ("BLK-8", "negligible", control_family(near(0.4), small=near(0.4))),
    ("BLK-8", "inconclusive (two networks)", control_family(small=[0.5, 0.51])),
    ("BLK-9", "supported", DEPTH),
    ("BLK-9", "contradicted", depth_family(LOW, RISING, similar=(0.8, 0.3, 0.4))),
    ("BLK-9", "negligible", depth_family(without={"procrustes": NO_EFFECT})),
    ("BLK-9", "not run (stage_contrast@procrustes_shuffled not measured)", DEPTH[DEPTH["quantity"] != "stage_contrast@procrustes_shuffled"]),
]  # fmt: skip


@pytest.mark.parametrize(("claim", "answers", "rows"), CASES, ids=[f"{claim}: {answers}" for claim, answers, _ in CASES])
def test_planted_similarities_give_the_answers_they_were_planted_for(claim: str, answers: str, rows: pd.DataFrame) -> None:
    entry = judge(claim, together(rows, CARDS), "laptop")
    if claim == "BLK-5":
        assert entry["required"] is False
    assert both_answers(entry) == answers, entry["reason"]


def state(entry: Mapping[str, Any], name: str, key: str = "controls") -> str:
    return next(one["state"] for one in entry[key] if one["name"] == name)


def test_the_estimate_is_the_index_of_the_mean_hsics_and_rows_in_any_order_give_it() -> None:
    means = {"standard": near(0.4), "robust": near(0.6)}
    found = {
        arm: np.mean([indices.off_diagonal_mean(hsic_of(matrix(mean), f"{arm}{seed}hsic", 25).matrix()) for seed, mean in enumerate(of)])
        for arm, of in means.items()
    }
    rows = together(alone("BLK-1", means, dict.fromkeys(means, 0.0), n=25), CARDS)
    entry = judge("BLK-1", rows, "laptop")
    assert entry["estimate"] == pytest.approx(found["robust"] - found["standard"], abs=2e-6)
    assert entry["n"] == 25
    assert entry["low"] < entry["estimate"] < entry["high"]
    assert judge("BLK-1", rows.sample(frac=1, random_state=1), "laptop") == entry


def test_a_check_that_speaks_of_several_quantities_counts_only_the_leaning_claims_own() -> None:
    rows = together(depth_family(similar_without=dict.fromkeys(("procrustes", "without_pc1"), (0.8, 0.7, 0.7))), CONTROLS, CARDS)
    verdicts = {claim: judge(claim, rows, "laptop") for claim in ("BLK-1", "BLK-2", "BLK-3", "BLK-4", "BLK-9")}
    assert [verdicts[f"BLK-{k}"]["verdict"] for k in (1, 2, 3)] == ["supported"] * 3
    assert verdicts["BLK-4"]["verdict"] == "inconclusive (check BLK-9)"
    assert "same_depth_mean@without_pc1, within robust contradicted" in verdicts["BLK-4"]["reason"]
    assert verdicts["BLK-9"]["verdict"] == "contradicted"


def test_procrustes_is_what_lies_beyond_shuffled_rows() -> None:
    changed = DEPTH["quantity"].isin(["off_diagonal_mean@procrustes_shuffled", "same_depth_mean@procrustes_shuffled"])
    rows = DEPTH.assign(value=DEPTH["value"].mask(changed & (DEPTH["arm"] == "robust"), 0.15))
    parts = {part["name"]: part["estimate"] for part in judge("BLK-9", together(rows, CARDS), "laptop")["parts"]}
    assert parts["off_diagonal_mean@procrustes"] == pytest.approx(0.2 - 0.1, abs=0.005)
    assert parts["same_depth_mean@procrustes, within standard"] == pytest.approx(0.302 - 0.7, abs=0.005)  # kept by the standard side
    assert parts["same_depth_mean@procrustes, within robust"] == pytest.approx((0.302 - 0.05) - (0.8 - 0.15), abs=0.005)
    torn = DEPTH[~((DEPTH["quantity"] == "off_diagonal_mean@procrustes_shuffled") & (DEPTH["unit"] == "batch 003"))]
    with pytest.raises(BadInput, match="8 units and off_diagonal_mean@procrustes_shuffled 7: measure both on the same ones"):
        judge("BLK-9", together(torn, CARDS), "laptop")


def test_layers_that_start_like_they_end_are_left_out_and_named() -> None:
    rows = settling(-0.3, -0.2, start=(0.95, 0.3))
    entry = judge("BLK-7", together(rows, CARDS), "laptop")
    assert entry["verdict"] == "supported"
    assert "left out, as they start like they end: stem, stage1.block1.relu1" in entry["reason"]
    found = {part["name"]: part["estimate"] for part in entry["parts"]}
    assert found["standard"] == pytest.approx(-0.295 * 3 / 4, abs=0.01)
    assert found["untrained against last, robust (shown)"] == pytest.approx(-0.65, abs=0.01)
    alike = judge("BLK-7", together(settling(-0.3, -0.2, start=(0.95, 0.95)), CARDS), "laptop")
    assert alike["verdict"] == "not run (no part is applicable)"
    late = rows[~rows["unit_2"].str.contains("epoch_0")]
    assert judge("BLK-7", together(late, CARDS), "laptop")["verdict"] == "not run (epoch_0 not measured)"


def test_how_like_standard_networks_a_control_is_answers_for_blk_4() -> None:
    levels = {"standard": 0.7, "robust": 0.3, "gauss": 0.35, "blur": 0.68, "std_matched": 0.69}
    frames = [CONTROLS]
    for arm, level in levels.items():
        for a, b in ((0, 1), (0, 2), (1, 2)):
            for first, second in [(("standard", a), (arm, b))] + ([] if arm == "standard" else [(("standard", b), (arm, a))]):
                hsic = hsic_of(np.eye(L) * level, f"{first}{second}", own=0)
                frames.append(as_rows("BLK-10", "hsic_pair", *first, hsic_rows.of_pair(hsic, network(*second), True)))
    entry = judge("BLK-4", together(DEPTH, *frames, CARDS), "laptop")
    assert entry["specificity"] == "not specific (noise-trained 88 %)"
    assert state(entry, "blur") == state(entry, "std_matched") == "ruled out"


def test_controls_of_an_architecture_without_the_layers_are_looked_for_among_the_claims_own() -> None:
    small = alone("BLK-10", {arm: near(0.5) for arm in ("standard", "robust", "untrained", "gauss")}, {}, n_layers=8)
    small = small.assign(architecture="w8", network=small["network"].str[::-1])
    untrained = alone("BLK-1", {"untrained": near(0.4)}, {"untrained": 0.3})
    entry = judge("BLK-3", together(DEPTH, untrained, small, CARDS), "cifar")
    assert state(entry, "untrained") == "ruled out"
    assert state(entry, "gauss") == "open (undefined in w8: a stage has 2 layers, at least 4 are needed)"
    assert entry["specificity"] == "open (noise-trained, blur-trained, accuracy-matched)"


def test_a_contrast_of_stages_that_are_too_short_is_shown_but_decides_nothing() -> None:
    means = {"standard": near(0.4), "robust_small": near(0.5), "robust": near(0.6)}
    small = together(
        *(alone(claim, means, {}, quantity, n_layers=8) for claim, quantity in (("BLK-1", "hsic"), ("BLK-10", "hsic@fashion")))
    )
    small = small.assign(architecture="w8")
    cards = CARDS.assign(architecture="w8")
    entry = judge("BLK-3", together(small, cards), "cifar")
    assert entry["verdict"] == "not run (undefined in w8: a stage has 2 layers, at least 4 are needed)"
    entry = judge("BLK-8", together(small, cards), "cifar")
    assert state(entry, "Fashion-MNIST, stage contrast (shown)", "parts") == "shown"
    assert judge("BLK-1", together(small, cards), "cifar")["estimate"] == pytest.approx(0.2, abs=0.01)
    assert (
        state(judge("BLK-1", together(small, cards), "cifar"), "mean_at_lag_8", "parts")
        == "not applicable (undefined in w8: too few layers)"
    )


def test_stages_are_those_of_the_architecture() -> None:
    assert stages_of("net14", L) == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
    assert stages_of("tinycnn", 4) == stages_of("somebody_elses", 9) == []
    assert stages_of("w8", 9) == []  # other layers are compared than its own


def test_the_similarity_beyond_the_pixels_is_that_of_the_partial_form() -> None:
    """Layers that share only what they owe to the pixels, .8 each, have similarity .64 and none beyond; .7 leaves .06 / .36."""
    frames = []
    for arm, mean in (("standard", 0.64), ("robust", 0.7)):
        c = np.pad(matrix(mean), (0, 1), constant_values=0.8)
        everything = hsic_of(c, arm, noise=0)
        own = everything.own_x
        layers, pixels = (
            BatchHSIC(everything.n, everything.cross[:, :L, side], own[:, :L], own[:, side], everything.ids)
            for side in (slice(L), slice(L, L + 1))
        )
        frames.append(as_rows("BLK-1", "hsic", arm, 0, hsic_rows.of_network(layers)))
        frames.append(as_rows("BLK-1", "hsic_pixels", arm, 0, hsic_rows.of_pixels(pixels)))
    parts = {part["name"]: part for part in judge("BLK-1", together(*frames, CARDS), "laptop")["parts"]}
    assert parts["off_diagonal_mean@deconfounded"]["estimate"] == pytest.approx(0.06 / 0.36, abs=0.01)
    parts = {part["name"]: part for part in judge("BLK-1", together(*frames[::2], CARDS), "laptop")["parts"]}
    assert parts["off_diagonal_mean@deconfounded"]["state"] == "not measured (similarity to the pixels not measured)"


def test_same_seed_pairs_are_refused() -> None:
    twins = pairs(0.3, 0.7, 0.8)
    c = hsic_of(np.eye(L), "twins", own=0)
    twins = together(twins, as_rows("BLK-1", "hsic_pair", "standard", 1, hsic_rows.of_pair(c, network("robust", 1), True)))
    rows = together(DEPTH[DEPTH["quantity"] != "hsic_pair"], twins, CARDS)
    with pytest.raises(
        BadInput, match="BLK-1, same_depth_mean: two networks of seed 1 share their initialisation: compare different seeds"
    ):
        judge("BLK-4", rows, "laptop")


def change(rows: pd.DataFrame, quantity: str, **columns: Any) -> pd.DataFrame:
    """DEPTH with the rows of a quantity replaced."""
    return together(DEPTH[DEPTH["quantity"] != quantity], rows.assign(**columns), CARDS)


def test_pairs_that_do_not_fit_are_refused() -> None:
    there = DEPTH[DEPTH["quantity"] == "hsic_pair"]
    back = hsic_rows.of_pair(hsic_of(np.eye(L), "back", own=0), network("standard", 0), True)
    with pytest.raises(BadInput, match=r"standard and standard of seeds \(0, 1\) are there twice: keep one pair"):
        judge("BLK-4", change(together(there, as_rows("BLK-1", "hsic_pair", "standard", 1, back)), "hsic_pair"), "laptop")
    unknown = there["unit_2"].str.replace(network("robust", 1), "0123456789ab")
    with pytest.raises(BadInput, match="network 0123456789ab is compared with another, but has no hsic rows of its own"):
        judge("BLK-4", change(there, "hsic_pair", unit_2=unknown), "laptop")
    torn = there[~(there["unit_2"].str.endswith("|y|3") & (there["unit"] == "batch 002"))]
    with pytest.raises(BadInput, match=r"networks .* and .*: HSIC rows lack y\|3 in some batch"):
        judge("BLK-4", change(torn, "hsic_pair"), "laptop")


def test_networks_measured_on_other_batches_or_layers_are_not_compared() -> None:
    own = DEPTH[DEPTH["quantity"] == "hsic"]
    fewer = own[~((own["arm"] == "robust") & (own["unit"] == "batch 007"))]
    with pytest.raises(BadInput, match="networks were measured on 8 batches of 14 layers and on 7 of 14: all need the same batches"):
        judge("BLK-1", change(fewer, "hsic"), "laptop")
    torn = own[~((own["network"] == network("robust", 0)) & (own["unit"] == "batch 003") & (own["unit_2"] == "2|5"))]
    with pytest.raises(BadInput, match=rf"BLK-1, off_diagonal_mean, network {network('robust', 0)}: HSIC rows lack 2\|5 in some batch"):
        judge("BLK-1", change(torn, "hsic"), "laptop")


def test_pairs_may_name_the_robust_network_first() -> None:
    entry = judge("BLK-4", together(DEPTH, CARDS), "laptop")
    assert entry["estimate"] == pytest.approx(0.302 - 0.7, abs=0.005)
    assert {kind: len(pairs) for kind, pairs in entry["networks"].items()} == {"within standard": 3, "across": 6}
    assert [part["estimate"] for part in entry["parts"][2:5]] == pytest.approx([0.7, 0.8, 0.302], abs=0.005)
    assert state(entry, "agreement of depths, within standard (shown)", "parts") == "not measured (only equal depths measured)"
    there = DEPTH[DEPTH["quantity"] == "hsic_pair"]
    robust = [network("robust", seed) for seed in range(3)]
    partner = there["unit_2"].str.partition("|")[0]
    across = (there["arm"] == "standard") & partner.isin(robust)
    sides = {"x": "y", "y": "x"}
    swapped = there[across].copy()
    rest = swapped["unit_2"].str.partition("|")[2].map(lambda label: sides.get(label[0], label[0]) + label[1:])
    swapped = swapped.assign(unit_2=swapped["network"] + "|" + rest, network=partner[across], arm="robust", recipe="recipe_robust")
    swapped = swapped.assign(seed=swapped["network"].map({name: seed for seed, name in enumerate(robust)}))
    turned = judge("BLK-4", change(together(there[~across], swapped), "hsic_pair"), "laptop")
    assert (turned["estimate"], turned["low"], turned["verdict"]) == (
        pytest.approx(entry["estimate"]),
        pytest.approx(entry["low"]),
        entry["verdict"],
    )


def test_agreement_of_depths_needs_every_pair_of_layers() -> None:
    rows = change(pairs(0.3, 0.7, 0.8, depths_only=False), "hsic_pair")
    part = next(part for part in judge("BLK-4", rows, "laptop")["parts"] if part["name"].startswith("agreement of depths"))
    assert (part["state"], round(part["estimate"], 9)) == ("shown", 0.0)  # every layer is most like the one at its depth, everywhere


def test_a_network_that_did_not_overfit_is_named() -> None:
    rows = overfitting(near(0.3))
    held = (rows["claim"] == "overfitting") & (rows["unit_2"] == "best")
    entry = judge("BLK-5", together(rows.assign(value=rows["value"].where(~held, 0.31)), CARDS), "cifar")
    assert entry["verdict"] == "inconclusive (check overfitted)"
    assert f"{network('robust', 0)} falls by 1.0 points from its best checkpoint to its last, not by 2" in entry["reason"]
    assert state(judge("BLK-5", together(rows, CARDS), "cifar"), "overfitted") == "passed"


def commit(folder: Any, rows: pd.DataFrame) -> Any:
    write_rows(folder / "rows.csv.gz", rows)
    rows = read_rows(folder / "rows.csv.gz")
    results = {"finding": "block_structure", "scale": "laptop", "claims": judge_finding("block_structure", rows, "laptop")}
    store.write_json(folder / "results.json", results | {"claims_sha256": claims_sha256("block_structure")})
    return folder


def test_one_altered_batch_of_one_layer_pair_makes_the_audit_fail(tmp_path: Any) -> None:
    folder = commit(tmp_path, together(DEPTH, CARDS, settling(-0.3, -0.2)))
    assert audit(folder) == []
    rows = read_rows(folder / "rows.csv.gz")
    which = rows.index[(rows["claim"] == "BLK-1") & (rows["quantity"] == "hsic") & (rows["arm"] == "robust") & (rows["unit_2"] == "1|13")][
        3
    ]
    rows.loc[which, "value"] += 0.01
    write_rows(folder / "rows.csv.gz", rows)
    lines = audit(folder)
    for claim in ("BLK-1", "BLK-2"):
        assert any(line.startswith(f"laptop/block_structure {claim}: estimate is ") for line in lines)
    assert not any(" BLK-7" in line for line in lines)
