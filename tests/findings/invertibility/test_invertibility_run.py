"""The whole protocol at its smallest: every role that is there, every part, and rows that the ledger can read."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import problems
import pytest
import torch
from inverses import carded, of, planted_set
from matplotlib.text import Text
from planting import judge_finding

from reprolib import parameters
from reprolib.findings.invertibility import (
    ablating,
    adding,
    baselines,
    external,
    extremes,
    figures,
    interpolating,
    inversions,
    outside,
    spread,
    tidying,
    visualising,
)  # fmt: skip
from reprolib.judging.tidy import card_rows, rounded, write_rows
from reprolib.models.mine import Own

CONTROLS = {"robust_small": "l2_small", "gauss": "gauss", "std_matched": "std_m", "blur": "blur", "untrained": "untrained"}


def planted_study(folder, scale: str = "smoke", **turned):
    settings = parameters.validate("invertibility", {"scale": scale, "n_targets": 4, "steps": 10, **turned})
    return SimpleNamespace(
        can_measure=True,
        only_mine=False,
        settings=settings,
        device="cpu",
        folder=folder,
        committed=folder,
        images=lambda split: planted_set(),
        reads=lambda images: images,
        report=lambda line: None,
        each=lambda nets: [(role, network) for role, networks in nets.items() for network in networks],
        first_training_images=lambda n: planted_set(),
    )


SECTIONS = (spread, outside, baselines, external, interpolating, visualising, adding, extremes, ablating)


def measured_at(study, nets):
    """Everything that the notebook measures: all rows, the deciding taus, and the inversions."""
    inverted = inversions.invert_all(study, nets, {"standard": problems.network(seed=5), "robust": problems.network(seed=6)})
    cards = [card_rows(role, network) for role, networks in nets.items() for network in networks]
    rows = [inverted.rows, *cards, *(frame for section in SECTIONS if len(frame := section.of(inverted).rows))]
    return SimpleNamespace(rows=pd.concat(rows, ignore_index=True), taus=inverted.taus, inverted=inverted)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """One run with a network of every role but robust_large, of which none is trained yet."""
    nets = {"standard": [carded(0)], "robust": [carded(0, "l2")], "robust_large": []}
    nets |= {role: [carded(0, recipe)] for role, recipe in CONTROLS.items()}
    return measured_at(planted_study(tmp_path_factory.mktemp("figures")), nets)


@pytest.mark.parametrize(("scale", "tau"), [("smoke", 0.2), ("laptop", 0)])
def test_the_whole_protocol_holds_at_its_smallest_and_at_a_tau_that_a_reader_asks_for(tmp_path, scale, tau):
    study = planted_study(tmp_path, scale, tau=tau)
    few = {"n_units": 4, "n_pairs": 4}  # how many there are changes nothing here but the time
    study.settings = replace(study.settings, values={**study.settings.values, **few})
    nets = {"standard": [carded(0)], "robust": [carded(0, "l2")], "untrained": [carded(2, "untrained")]}
    measured = measured_at(study, nets)
    kinds = ("noise", "image")
    frozen = study.settings.values.get("taus", {})
    assert measured.taus == {kind: tau or frozen[kind] for kind in kinds}
    assert len(rounded(measured.rows)) == len(measured.rows)
    for claim, start, arms in (("INV-1", "image", ("standard", "robust")), ("INV-2", "noise", nets)):
        for arm in arms:  # an untrained network starts from noise alone
            deciding = of(measured.rows, claim, "distance_ratio", arm)
            assert len(deciding) == 4 * deciding["unit_2"].nunique() > 0
            assert deciding["unit_2"].str.startswith(start).all()
            at = measured.taus["image" if claim == "INV-1" else "noise"]
            assert deciding["value"].tolist() == of(measured.rows, claim, f"distance_ratio@{at:g}", arm)["value"].tolist()
    assert of(measured.rows, "INV-1", "distance_ratio", "untrained").empty
    assert set(measured.rows["arm"]) == {*nets, "judge", "pca", "crossfade"}
    assert set(of(measured.rows, "code_size", "distance_ratio")["unit_2"]) == {"k=1", "k=2", "k=4"}  # the last map is 4 x 4
    assert [cell["role"] for cell in measured.inverted.hero_cells()] == ["standard", "robust"]  # of seed 0


def test_a_frozen_tau_decides_and_networks_beside_the_arms_start_from_one_noise_where_the_preset_says_so(tmp_path):
    study = planted_study(tmp_path, "laptop")
    frozen = {"noise": 0.35, "image": 0.5}
    values = {**study.settings.values, "n_noise": 2, "one_noise_beside_arms": True, "taus": frozen}
    study.settings = replace(study.settings, values=values)
    nets = {"standard": [carded(0)], "robust": [carded(0, "l2")], "gauss": [carded(2, "gauss")]}
    inverted = inversions.invert_all(study, nets, {"standard": problems.network(seed=5), "robust": problems.network(seed=6)})
    assert inverted.taus == frozen
    study.settings = replace(study.settings, values={name: value for name, value in values.items() if name != "taus"})
    assert inversions.invert_all(study, nets, {"standard": problems.network(seed=5), "robust": problems.network(seed=6)}).taus == (
        tidying.deciding_taus(inverted.rows)
    )
    deciding = of(inverted.rows, "INV-2", "distance_ratio", "robust")
    assert deciding["value"].tolist() == of(inverted.rows, "INV-2", "distance_ratio@0.35", "robust")["value"].tolist()
    pairs = spread.of(inverted).rows.groupby("arm")["unit_2"].unique()
    assert pairs["gauss"].tolist() == ["noise_0+image"]
    assert len(pairs["robust"]) == 3
    starts = {one.role: list(one.runs) for one in inverted.inverted}
    assert starts == {role: ["noise_0", "noise_1", "image"] for role in ("standard", "robust")} | {"gauss": ["noise_0", "image"]}


def test_every_role_that_has_networks_is_measured_and_a_role_that_has_none_is_absent(everything):
    rows = everything.rows
    assert len(rounded(rows)) == len(rows)
    for role in ("standard", "robust", *CONTROLS):
        assert len(of(rows, "INV-2", "distance_ratio", role)) == len(of(rows, "INV-3", "recognised", role)) > 0
        from_images = len(of(rows, "INV-1", "distance_ratio", role))
        assert from_images == (0 if role == "untrained" else 4)
    assert "robust_large" not in set(rows["arm"])
    assert set(rows.loc[rows["claim"] == "INV-5", "arm"]) == {"standard", "robust", "gauss", "blur", "std_matched"}


def test_single_units_and_interpolations_keep_to_the_networks_that_their_claims_compare_where_the_preset_says_so(everything, tmp_path):
    study = planted_study(tmp_path)
    study.settings = replace(study.settings, values={**study.settings.values, "only_compared": True, "n_code_size": 2})
    nets = {"standard": [carded(0)], "robust": [carded(0, "l2")]} | {role: [carded(0, recipe)] for role, recipe in CONTROLS.items()}
    kept, arms = measured_at(study, nets).rows, {"standard", "robust"}
    for claim, compared in (
        ("INV-6", {"gauss", "blur", "std_matched", "crossfade"}),
        ("INV-7", {"gauss", "blur", "std_matched"}),
        ("INV-8", {"gauss", "blur", "std_matched"}),
    ):
        assert set(kept.loc[kept["claim"] == claim, "arm"]) == arms | compared
        assert set(everything.rows.loc[everything.rows["claim"] == claim, "arm"]) >= arms | set(CONTROLS)
    assert of(kept, "code_size", "distance_ratio").groupby("unit_2").size().tolist() == [2, 2, 2]
    verdicts, all_verdicts = (judge_finding("invertibility", rows, "smoke") for rows in (kept, everything.rows))
    assert verdicts == all_verdicts  # no claim misses what was left out


def test_the_deciding_code_is_not_inverted_twice(everything):
    for arm in ("standard", "robust"):
        sizes = of(everything.rows, "code_size", "distance_ratio", arm)
        decided = of(everything.rows, "INV-2", "distance_ratio@final", arm)
        assert sizes.loc[sizes["unit_2"] == "k=4", "value"].tolist() == decided.loc[decided["unit_2"] == "noise_0", "value"].tolist()


def test_the_claims_about_control_networks_and_trends_find_their_rows(everything):
    verdicts = {entry["id"]: entry for entry in judge_finding("invertibility", everything.rows, "smoke")}
    for claim in ("INV-1", "INV-2", "INV-3", "INV-4", "INV-5", "INV-9"):
        assert verdicts[claim]["estimate"] is not None, claim
        assert "not measured" not in verdicts[claim]["verdict"]
    assert all(part["estimate"] is not None for part in verdicts["INV-4"]["parts"])
    twice = everything.rows[everything.rows["claim"] == "converged"]
    assert set(twice["arm"]) == {"standard", "robust", "robust_small"}  # those that claims with this control compare


def test_grey_starts_take_part_in_the_spread_and_in_no_claim_about_noise(tmp_path):
    study = planted_study(tmp_path)
    study.settings = replace(study.settings, values={**study.settings.values, "n_grey": 1, "n_converged": 1})
    rows = measured_at(study, {"standard": [carded(0)], "robust": [carded(0, "l2")]}).rows
    assert set(of(rows, "INV-4", "start_spread")["unit_2"]) == {"noise_0+image", "noise_0+grey", "image+grey"}
    assert set(of(rows, "INV-2", "distance_ratio")["unit_2"]) == {"noise_0"}
    assert set(of(rows, "INV-3", "recognised")["unit_2"]) == {"noise_0"}
    assert set(rows.loc[rows["unit_2"] == "grey", "claim"]) == {"grey", "inversion"}  # "inversion": the share without a gradient
    assert len(of(rows, "grey", "distance_ratio")) == 4


def test_without_images_nothing_is_measured_and_the_committed_rows_stand_in(everything, tmp_path):
    study = planted_study(tmp_path)
    study.can_measure, study.rows = False, rounded(everything.rows)
    inverted = inversions.invert_all(study, {"standard": [carded(0)]}, {})
    assert all(section.of(inverted).rows.empty and not section.of(inverted).pictures for section in SECTIONS)
    assert inverted.taus == everything.taus | {"outside": inverted.taus["outside"]}
    assert (inverted.hero_cells(), inverted.size_pictures(), inverted.frames()) == ([], {}, None)
    assert (
        len(inverted.reach)
        == len(everything.inverted.reach) + everything.rows.loc[everything.rows["claim"] == "INV-5", "network"].nunique()
    )


def test_beside_committed_rows_only_the_readers_own_network_is_measured_and_the_inverses_of_all_are_shown(everything, tmp_path):
    study = planted_study(tmp_path)
    study.only_mine, study.rows = True, rounded(everything.rows)
    study.first = {"standard": carded(0), "robust": carded(0, "l2")}.get
    own = Own(torch.nn.Sequential(problems.network(seed=3)), planted_set().x[:2] / 255, 10)
    inverted = inversions.invert_all(study, {"mine": [own]}, {"standard": problems.network(seed=5), "robust": problems.network(seed=6)})
    assert inverted.taus == everything.taus | {"outside": inverted.taus["outside"]}  # those of the committed arms
    assert [one.role for one in inverted.inverted] == ["mine"]
    cells = inverted.hero_cells()
    assert [(cell["role"], len(cell["inversions"]["noise_0"])) for cell in cells] == [("standard", 3), ("robust", 3), ("mine", 4)]
    assert set(inverted.frames()) == {"targets", "mine, seed 0"}
    assert inverted.size_pictures() == {}
    for section in SECTIONS:
        part = section.of(inverted)
        if section in (baselines, external, ablating):
            assert (len(part.rows), part.pictures) == (0, {})
        else:
            assert "mine" in set(part.rows["arm"])
    drawn = pd.concat([everything.rows, inverted.rows[inverted.rows["arm"] == "mine"]])
    for figure in (
        figures.trajectories(drawn, inverted.taus["noise"]),
        figures.controls(drawn),
        figures.judges(drawn),
        figures.hero_grid(cells),
    ):
        assert any(text.get_text().startswith("mine") for text in figure.findobj(Text))


def test_another_objective_is_searched_by_and_kept_apart_and_compared_at_the_same_distance(tmp_path):
    def cosine(code, wanted):
        return 1 - torch.nn.functional.cosine_similarity(code, wanted)

    nets = {"standard": [carded(0)], "robust": [carded(0, "l2")]}
    judges = {"standard": problems.network(seed=5), "robust": problems.network(seed=6)}
    plain, other = (
        inversions.invert_all(planted_study(tmp_path), nets, judges, *how).inverted[0].runs["noise_0"] for how in ((), (cosine,))
    )
    assert not torch.equal(plain.x, other.x)
    assert torch.equal(plain.trajectory[0], other.trajectory[0])  # both look at d_rel, and start alike


def test_committed_rows_of_what_cannot_be_measured_are_carried_over_and_nothing_else(tmp_path):
    def row(claim, quantity, network, value):
        return {
            "claim": claim, "quantity": quantity, "arm": f"arm {network}", "recipe": "std", "architecture": "w8", "seed": 0,
            "network": network, "unit": "1", "unit_2": "", "value": value, "reached": True,
        }  # fmt: skip

    committed = pd.DataFrame([
        row(external.CLAIM, "distance_ratio", "theirs", 1.0), row("INV-5", "distance_ratio@fashion", "ours", 2.0),
        row("INV-5", "distance_ratio@fashion", "ours of old", 3.0), row("INV-5", "distance_ratio", "ours", 4.0),
        row("INV-2", "distance_ratio@0.9", "ours", 5.0),
    ])  # fmt: skip
    measured = pd.DataFrame([row("INV-5", "distance_ratio", "ours", 0.5)])
    study = SimpleNamespace(settings=SimpleNamespace(overridden={}), committed=tmp_path, committed_rows=lambda: rounded(committed))
    inverted = inversions.Inversions(study, {}, measured, {})
    assert inverted.committed("INV-5", measured).empty  # there is no file yet
    write_rows(tmp_path / "rows.csv.gz", committed)
    assert inverted.committed("INV-5", measured)["value"].tolist() == [2.0, 3.0]  # of these outside.of keeps its own networks'
    assert inverted.committed(external.CLAIM, measured.iloc[:0])["value"].tolist() == [1.0]
    study.settings.overridden = {"steps": 5}
    assert inverted.committed("INV-5", measured).empty
