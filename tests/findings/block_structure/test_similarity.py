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
from planting import network, together

from reprolib import store
from reprolib.errors import BadInput
from reprolib.findings.block_structure import hsic_rows
from reprolib.findings.block_structure.similarity import stages_of
from reprolib.judging.audit import audit
from reprolib.judging.claims import claims_sha256, judge, judge_finding, load_claims, read_rows, write_rows
from reprolib.measures import indices
from reprolib.measures.cka import BatchHSIC

CARDS = good_cards()
DEPTH, CONTROLS = depth_family(), control_family()
LOW = {"standard": [0.6, 0.61], "robust": [0.4, 0.41]}
SAME = {"standard": [0.5, 0.51], "robust": [0.5, 0.51]}
SCATTERED = {"standard": [0.4, 0.55], "robust": [0.65, 0.66]}
STEEP, FLAT, RISING = {"standard": 0.3, "robust": 0.1}, {"standard": 0.3, "robust": 0.3}, {"standard": 0.1, "robust": 0.3}
NO_EFFECT = {"standard": [0.4, 0.41], "robust": [0.4, 0.41]}


def overfitting(
    robust: Sequence[float],
    standard: Sequence[float] = (0.0, 0.01),
    before: float = 0.0,
    standard_before: float = 0.0,
    fitted: float = 1.0,
) -> pd.DataFrame:
    """arm -> slope over depth of 1 - CKA(best, last) of each seed; before, standard_before: of the earlier pair of either arm."""

    def course(slope: float, before: float) -> dict[tuple[str, str], Any]:
        return {("best", "last"): line(0.9, 0.9 - slope), ("before_1", "before_2"): line(0.9, 0.9 - before)}

    curves = {"standard": [course(slope, standard_before) for slope in standard], "robust": [course(slope, before) for slope in robust]}
    frames = [states("BLK-5", curves)]
    for seed in range(2):
        table = pd.DataFrame({"unit": ["train"], "unit_2": ["last"], "value": [fitted]})
        frames.append(as_rows("overfitting", "train_accuracy", "standard", seed, table))
        table = pd.DataFrame({"unit": ["test"] * 2, "unit_2": ["best", "last"], "value": [0.4, 0.3]})
        frames.append(as_rows("overfitting", "adversarial_accuracy", "robust", seed, table))
    return together(*frames)


def moved(standard: Sequence[float], robust: Sequence[float], gauss: Sequence[float] = (0.5, 0.51)) -> pd.DataFrame:
    """Similarity of adversarial to clean features in the last third; gauss beside a robust and a standard network like BLK-6's."""
    pair = ("clean", "adversarial")
    arms = {"standard": standard, "robust": robust}
    found = {arm: [{pair: line(1.0, 1.0) * level} for level in levels] for arm, levels in arms.items()}
    beside = {arm: [{pair: line(1.0, 1.0) * level} for level in levels] for arm, levels in {**arms, "gauss": gauss}.items()}
    return together(states("BLK-6", found), states("BLK-10", beside))


def settling(standard: Sequence[float], robust: Sequence[float]) -> pd.DataFrame:
    """Networks whose CKA with the last epoch falls with depth by that much, at epochs 0 to 3 of 4 (times 7/8 on average)."""

    def course(slope: float) -> dict[tuple[str, str], Any]:
        return {(f"epoch_{epoch}", "epoch_4"): line(0.6 - slope / 2, 0.6 + slope / 2) for epoch in range(4)}

    return states("BLK-7", {"standard": [course(slope) for slope in standard], "robust": [course(slope) for slope in robust]})


CASES: dict[tuple[str, str], pd.DataFrame] = {
    ("BLK-1", "supported"): together(DEPTH, CONTROLS),
    ("BLK-1", "contradicted"): together(
        depth_family(LOW, RISING), control_family((0.4, 0.41), (0.6, 0.61), contrast=0.5)
    ),
    ("BLK-1", "confounded (BLK-9)"): together(depth_family(without={"without_pc1": NO_EFFECT}), CONTROLS),
    ("BLK-1", "confounded (BLK-10)"): together(DEPTH, control_family(control=(0.62, 0.63))),
    ("BLK-1", "negligible"): together(depth_family(SAME), CONTROLS),
    ("BLK-1", "inconclusive (c)"): together(depth_family(SCATTERED), CONTROLS),
    ("BLK-1", "inconclusive (control BLK-9)"): together(DEPTH[~DEPTH["quantity"].str.endswith("without_pc1")], CONTROLS),
    ("BLK-1", "not run (no rows: not measured yet)"): CONTROLS,
    ("BLK-2", "supported"): together(DEPTH, CONTROLS),
    ("BLK-2", "confounded (BLK-9)"): together(depth_family(without={"procrustes": NO_EFFECT}), CONTROLS),
    ("BLK-3", "supported"): together(DEPTH, CONTROLS),
    ("BLK-3", "contradicted"): together(depth_family(contrasts=RISING), control_family(contrast=0.5)),
    ("BLK-3", "confounded (BLK-10)"): together(DEPTH, control_family(contrast=0.4)),
    ("BLK-3", "negligible"): together(depth_family(contrasts=FLAT), CONTROLS),
    ("BLK-4", "supported"): together(DEPTH, CONTROLS),
    ("BLK-4", "contradicted"): together(depth_family(similar=(0.8, 0.3, 0.4)), CONTROLS),
    ("BLK-4", "confounded (BLK-9)"): together(depth_family(similar_without={"without_top_points": (0.7, 0.7, 0.71)}), CONTROLS),
    ("BLK-4", "negligible"): together(depth_family(similar=(0.7, 0.7, 0.7)), CONTROLS),
    ("BLK-4", "inconclusive (a)"): together(depth_family(similar=(0.645, 0.7, 0.8)), CONTROLS),
    ("BLK-4", "not run (no rows: no pair of robust and robust of different seeds)"): DEPTH[
        ~((DEPTH["quantity"] == "hsic_pair") & (DEPTH["arm"] == "robust"))
    ],
    ("BLK-5", "supported"): overfitting((0.3, 0.31)),
    ("BLK-5", "contradicted"): overfitting((-0.08, -0.07), (0.3, 0.31)),
    ("BLK-5", "confounded (overfitted)"): overfitting((0.3, 0.31), fitted=0.97),
    ("BLK-5", "negligible"): overfitting((0.0, 0.01)),
    ("BLK-5", "inconclusive (a, b, c)"): overfitting((0.3, 0.31), before=0.3),  # as steep before
    # Neither half of the claim holds, and the difference of both differences is .25: the standard network changed most of all.
    ("BLK-5", "inconclusive (a, b)"): overfitting((0.1, 0.101), (0.2, 0.201), before=0.15, standard_before=0.5),
    ("BLK-5", "inconclusive (c)"): overfitting((0.2, 0.45)),
    ("BLK-5", "inconclusive (control overfitted)"): overfitting((0.3, 0.31)).query("claim != 'overfitting'"),
    ("BLK-6", "supported"): moved((0.5, 0.51), (0.9, 0.91)),
    ("BLK-6", "contradicted"): moved((0.7, 0.71), (0.5, 0.51), (0.7, 0.7)),
    ("BLK-6", "confounded (gauss)"): moved((0.5, 0.51), (0.9, 0.91), (0.95, 0.95)),
    ("BLK-6", "inconclusive (a, b)"): moved((0.5, 0.51), (0.75, 0.76)),
    ("BLK-7", "supported"): settling((-0.3, -0.31), (-0.2, -0.21)),
    ("BLK-7", "contradicted"): settling((0.3, 0.31), (0.2, 0.21)),
    ("BLK-7", "negligible"): settling((0.0, 0.01), (0.0, 0.01)),
    ("BLK-7", "inconclusive (a, b, c)"): settling((-0.3, -0.31), (0.0, 0.01)),
    ("BLK-8", "supported"): CONTROLS,
    ("BLK-8", "contradicted"): control_family((0.2, 0.21), small=(0.3, 0.31)),
    ("BLK-8", "negligible"): control_family((0.4, 0.41), small=(0.4, 0.41)),
    ("BLK-8", "inconclusive (c)"): control_family((0.5, 0.7)),
    ("BLK-9", "supported"): DEPTH,
    ("BLK-9", "contradicted"): depth_family(LOW, RISING, similar=(0.8, 0.3, 0.4)),
    ("BLK-9", "negligible"): depth_family(SAME, FLAT, similar=(0.7, 0.7, 0.7)),
    ("BLK-9", "inconclusive (a, b, c)"): depth_family(without={"procrustes": NO_EFFECT}),
    ("BLK-10", "supported"): CONTROLS,
    ("BLK-10", "contradicted"): control_family((0.2, 0.21), contrast=0.5),
    ("BLK-10", "negligible"): control_family((0.42, 0.43), contrast=0.3),
    ("BLK-10", "inconclusive (a, b, c)"): control_family(contrast=0.3),
}  # fmt: skip


@pytest.mark.parametrize(("claim", "verdict"), CASES, ids=[f"{claim}: {verdict}" for claim, verdict in CASES])
def test_planted_similarities_give_the_verdict_they_were_planted_for(claim: str, verdict: str) -> None:
    entry = judge(claim, together(CASES[claim, verdict], CARDS), "laptop")
    assert entry["verdict"] == verdict, entry["reason"]


def test_every_claim_was_planted_with_every_verdict_it_can_have() -> None:
    """BLK-7 to BLK-10 have no control that could fail; BLK-2's other verdicts come about as BLK-1's do."""
    for claim in [f"BLK-{k}" for k in (1, 3, 4, 5, 6, 7, 8, 9, 10)]:
        found = {verdict.split(" (")[0] for one, verdict in CASES if one == claim}
        wanted = {"supported", "contradicted"} | ({"negligible"} if claim != "BLK-6" else {"inconclusive"})
        wanted |= {"confounded"} if load_claims()[claim].controls else {"inconclusive"}
        assert wanted <= found, claim


def state(entry: Mapping[str, Any], name: str, key: str = "controls") -> str:
    return next(one["state"] for one in entry[key] if one["name"] == name)


def test_the_estimate_is_the_index_of_the_mean_hsics_and_rows_in_any_order_give_it() -> None:
    means = {"standard": [0.4], "robust": [0.6]}
    found = {arm: indices.off_diagonal_mean(hsic_of(matrix(mean), f"{arm}0hsic", 25).matrix()) for arm, (mean,) in means.items()}
    rows = together(alone("BLK-1", means, dict.fromkeys(means, 0.0), n=25), CARDS)
    entry = judge("BLK-1", rows, "laptop")
    assert entry["estimate"] == pytest.approx(found["robust"] - found["standard"], abs=2e-6)
    assert entry["n"] == 25
    assert entry["low"] < entry["estimate"] < entry["high"]
    assert judge("BLK-1", rows.sample(frac=1, random_state=1), "laptop") == entry


def test_a_control_that_speaks_of_several_quantities_counts_only_the_leaning_claims_own() -> None:
    rows = together(depth_family(similar_without=dict.fromkeys(("procrustes", "without_pc1"), (0.8, 0.7, 0.7))), CONTROLS, CARDS)
    verdicts = {claim: judge(claim, rows, "laptop") for claim in ("BLK-1", "BLK-2", "BLK-3", "BLK-4", "BLK-9")}
    assert [verdicts[f"BLK-{k}"]["verdict"] for k in (1, 2, 3)] == ["supported"] * 3
    assert verdicts["BLK-4"]["verdict"] == "confounded (BLK-9)"
    assert "same_depth_mean@procrustes, same_depth_mean@without_pc1 failed" in verdicts["BLK-4"]["reason"]
    assert verdicts["BLK-9"]["verdict"].startswith("inconclusive")


def test_a_part_that_is_shown_decides_no_claim_but_answers_the_one_on_its_quantity() -> None:
    without = DEPTH[DEPTH["quantity"] != "long_range_mean@procrustes"]
    entry = judge("BLK-9", together(without, CARDS), "laptop")
    assert entry["verdict"] == "supported"
    assert state(entry, "long_range_mean@procrustes", "parts") == "not measured"
    assert judge("BLK-2", together(without, CARDS), "laptop")["verdict"] == "inconclusive (control BLK-9)"
    assert judge("BLK-2", together(without, CARDS), "gpu")["verdict"] == "supported"  # no Procrustes is asked there


def test_a_removal_that_takes_three_quarters_of_the_effect_away_fails_though_its_sign_is_kept() -> None:
    rows = depth_family(without={"without_pc1": {"standard": [0.4, 0.41], "robust": [0.41, 0.42]}})
    layers = rows["unit_2"].str.split("|")
    scattered = (rows["quantity"] == "hsic@without_pc1") & (rows["arm"] == "robust") & (layers.str[0] != layers.str[-1])
    odd = rows["unit"].str[-1].astype(int) % 2 == 1
    rows = rows.assign(value=rows["value"] + scattered * np.where(odd, 0.05, -0.05))
    entry = judge("BLK-9", together(rows, CARDS), "laptop")
    part = next(part for part in entry["parts"] if part["name"] == "off_diagonal_mean@without_pc1")
    assert part["low"] < 0 < part["estimate"] < part["high"] < 0.1
    assert part["state"] == "failed"
    assert judge("BLK-1", together(rows, CONTROLS, CARDS), "laptop")["verdict"] == "confounded (BLK-9)"


def test_parts_that_a_scale_does_not_ask_for_are_not_applicable_there() -> None:
    rows = together(DEPTH, control_family(contrast=0.4), CARDS)
    entry = judge("BLK-10", rows, "cifar")
    assert entry["verdict"] == "supported"
    assert state(entry, "stage contrast, gauss", "parts") == "not applicable (asked at laptop, gpu only)"
    assert judge("BLK-10", rows, "laptop")["verdict"] != "supported"
    contrast = judge("BLK-3", rows, "cifar")
    assert contrast["verdict"] == "supported"
    assert state(contrast, "BLK-10") == "not applicable (asked at laptop, gpu only)"


def test_a_contrast_of_stages_that_are_too_short_is_shown_but_decides_nothing() -> None:
    means = {"standard": [0.4, 0.41], "robust": [0.6, 0.61]}
    frames = []
    for arm, seeds in means.items():
        for seed, mean in enumerate(seeds):
            table = hsic_rows.of_network(hsic_of(matrix(mean, n_layers=8), f"{arm}{seed}"))
            frames += [as_rows(*where, arm, seed, table, "w8") for where in (("BLK-1", "hsic"), ("BLK-10", "hsic@fashion"))]
    small = together(*frames)
    cards = CARDS.assign(architecture="w8")
    entry = judge("BLK-3", together(small, cards), "cifar")
    assert entry["verdict"] == "not run (not applicable: undefined in w8: a stage has 2 layers, at least 4 are needed)"
    entry = judge("BLK-8", together(small, cards), "cifar")
    assert state(entry, "Fashion-MNIST, stage contrast (shown)", "parts") == "shown"
    assert judge("BLK-1", together(small, cards), "cifar")["estimate"] == pytest.approx(0.2, abs=0.01)
    assert (
        state(judge("BLK-1", together(small, cards), "cifar"), "mean_at_lag_8", "parts")
        == "not applicable (undefined in w8: too few layers)"
    )


def test_stages_are_those_of_the_architecture() -> None:
    assert stages_of("net14", L) == ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12))
    assert stages_of("tinycnn", 4) == stages_of("somebody_elses", 9) == ()
    with pytest.raises(BadInput, match="9 layers of w8: rows hold its 7 post-activation maps and the pooled features"):
        stages_of("w8", 9)


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
    there = DEPTH[DEPTH["quantity"] == "hsic_pair"]
    entry = judge("BLK-4", together(DEPTH, CARDS), "laptop")
    assert [(pair["a"], pair["b"]) for pair in entry["seeds"]] == [(0, 1), (1, 0)]
    assert entry["estimate"] == pytest.approx(0.305 - 0.7, abs=0.005)
    assert [part["estimate"] for part in entry["parts"][:3]] == pytest.approx([0.7, 0.8, 0.305], abs=0.005)
    assert [part["state"] for part in entry["parts"][:3]] == ["shown"] * 3
    assert state(entry, "depth_agreement", "parts") == "not measured (only equal depths measured)"
    is_across = (there["arm"] == "standard") & (there["unit_2"].str.partition("|")[0] != network("standard", 1))
    frames = [there[~is_across]]
    for seed in range(2):
        c = np.full((L, L), 0.1 + 0.01 * seed)
        np.fill_diagonal(c, 0.3 + 0.01 * seed)
        hsic = hsic_of(c, f"{('standard', seed)}{('robust', 1 - seed)}hsic_pair", own=0)
        frames.append(as_rows("BLK-1", "hsic_pair", "robust", 1 - seed, hsic_rows.of_pair(hsic, network("standard", seed))))
    turned = judge("BLK-4", change(together(*frames), "hsic_pair"), "laptop")
    assert turned["seeds"] == [pytest.approx(pair) for pair in entry["seeds"]]


def test_agreement_of_depths_needs_every_pair_of_layers() -> None:
    rows = change(pairs(0.3, 0.7, 0.8, depths_only=False), "hsic_pair")
    part = next(part for part in judge("BLK-4", rows, "laptop")["parts"] if part["name"] == "depth_agreement")
    assert (part["state"], part["estimate"]) == ("shown", 0.0)  # every layer is most like the one at its depth, everywhere


def test_a_network_that_did_not_overfit_is_named() -> None:
    rows = overfitting((0.3, 0.31))
    held = (rows["claim"] == "overfitting") & (rows["unit_2"] == "best")
    entry = judge("BLK-5", together(rows.assign(value=rows["value"].where(~held, 0.31)), CARDS), "cifar")
    assert entry["verdict"] == "confounded (overfitted)"
    assert f"{network('robust', 0)} falls by 1.0 points from its best checkpoint to its last, not by 2" in entry["reason"]
    entry = judge("BLK-5", together(rows, CARDS), "cifar")
    assert state(entry, "overfitted") == "passed"
    assert next(one["estimate"] for one in entry["controls"] if one["name"] == "overfitted") == pytest.approx(0.1)


def test_layers_settle_over_all_epochs_the_last_one_too() -> None:
    entry = judge("BLK-7", together(settling((-0.3, -0.31), (-0.2, -0.21)), CARDS), "laptop")
    found = {part["name"]: part["estimate"] for part in entry["parts"]}
    assert found["standard"] == pytest.approx(
        -0.305 * 7 / 8, abs=0.005
    )  # trapezoids: three whole epochs and half of the one that ends at 1
    assert found["untrained against last, robust (shown)"] == pytest.approx(-0.205, abs=0.005)
    assert "weakest part: robust" in entry["reason"]


def test_a_network_control_is_of_its_own_architecture() -> None:
    entry = judge("BLK-6", together(moved((0.5, 0.51), (0.9, 0.91), (0.6, 0.61)), CARDS), "laptop")
    gauss = next(one for one in entry["controls"] if one["name"] == "gauss")
    assert (gauss["state"], round(gauss["estimate"], 2)) == ("passed", 0.3)
    assert network("gauss", 0) in entry["networks"]
    assert [part["state"] for part in entry["parts"][:3]] == ["inside the margin", "passed", "shown"]
    assert "weakest part: robust stays above .8" in entry["reason"]  # half of its margin; the difference is eight smallest effects
    near = judge("BLK-6", together(moved((0.9, 0.9), (0.99, 0.99)), CARDS), "laptop")
    assert "weakest part: robust minus standard" in near["reason"]
    elsewhere = moved((0.5, 0.51), (0.9, 0.91)).query("claim != 'BLK-10'")
    assert judge("BLK-6", together(elsewhere, CARDS), "laptop")["verdict"] == "inconclusive (control gauss)"


def commit(folder: Any, rows: pd.DataFrame) -> Any:
    write_rows(folder / "rows.csv.gz", rows)
    rows = read_rows(folder / "rows.csv.gz")
    results = {"finding": "block_structure", "scale": "laptop", "claims": judge_finding("block_structure", rows, "laptop")}
    store.write_json(folder / "results.json", results | {"claims_sha256": claims_sha256("block_structure")})
    return folder


def test_one_altered_batch_of_one_layer_pair_makes_the_audit_fail(tmp_path: Any) -> None:
    folder = commit(tmp_path, together(DEPTH, CARDS, settling((-0.3, -0.31), (-0.2, -0.21))))
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
