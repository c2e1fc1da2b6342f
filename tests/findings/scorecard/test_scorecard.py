"""The scorecard: it reads the evidence that counts, repeats the verdicts' own numbers, and draws no share of what is not there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from reprolib import parameters, provenance, registry
from reprolib.errors import BadInput, MissingData
from reprolib.figures import style
from reprolib.findings.scorecard import figures, reading, tables
from reprolib.judging.audit import audit
from reprolib.judging.ledger import load_claims
from reprolib.measures.quantities import partial_rank_correlation

ROOT = Path(__file__).parents[3]
FINDINGS = ("shape_bias", "simplicity_biases")  # one of images, one of hidden units
CLAIMS = load_claims()


def copied(finding: str, scale: str, folder: Path) -> Path:
    """The committed rows and results of a finding, in another folder."""
    target = folder / scale / finding
    target.mkdir(parents=True)
    for name in ("rows.csv.gz", "results.json"):
        shutil.copy(ROOT / "figures" / scale / finding / name, target / name)
    return target


@pytest.fixture
def evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of figures with two findings at cifar and one at laptop."""
    monkeypatch.setenv("REPROLIB_FIGURES", str(tmp_path / "figures"))
    for finding in FINDINGS:
        copied(finding, "cifar", tmp_path / "figures")
    copied("shape_bias", "laptop", tmp_path / "figures")
    return tmp_path / "figures"


@pytest.fixture(scope="module")
def cifar() -> dict[str, reading.Measured]:
    return {finding: reading.Measured(finding, "cifar", ROOT / "figures" / "cifar" / finding) for finding in FINDINGS}


@pytest.fixture(scope="module")
def networks(cifar: dict[str, reading.Measured]) -> pd.DataFrame:
    return tables.networks(cifar, reading.properties(cifar))


def test_committed_evidence_is_read_and_other_scales_beside(evidence: Path) -> None:
    settings = parameters.validate("scorecard", {"scale": "cifar"})
    read = reading.measured(settings)
    assert [*read] == [*FINDINGS]
    assert read["shape_bias"].folder == evidence / "cifar" / "shape_bias"
    assert [(of["scale"], of["finding"]) for of in reading.at_other_scales(settings)] == [("laptop", "shape_bias")]


@pytest.mark.parametrize(("tree", "writes", "is_own"), [("this", "0", True), ("another", "0", False), ("this", "1", False)])
def test_a_run_of_this_code_counts_before_the_committed_evidence_but_where_evidence_is_written(
    evidence: Path, monkeypatch: pytest.MonkeyPatch, tree: str, writes: str, is_own: bool
) -> None:
    rerun = copied("shape_bias", "cifar", evidence / "rerun")
    results = json.loads((rerun / "results.json").read_text())
    results["provenance"]["tree"] = provenance.tree_hash() if tree == "this" else tree
    (rerun / "results.json").write_text(json.dumps(results))
    monkeypatch.setenv(parameters.WRITE, writes)
    read = reading.measured(parameters.validate("scorecard", {"scale": "cifar"}))
    assert (read["shape_bias"].folder == rerun) is is_own
    assert read["simplicity_biases"].folder == evidence / "cifar" / "simplicity_biases"


def test_where_nothing_is_measured_a_sentence_says_what_to_run(evidence: Path) -> None:
    with pytest.raises(MissingData, match="no finding is measured at scale gpu: run the other notebooks first"):
        reading.measured(parameters.validate("scorecard", {"scale": "gpu"}))


def test_it_takes_no_parameter_of_a_measurement() -> None:
    assert list(parameters.of("scorecard")) == ["scale", "device", "interactive"]
    with pytest.raises(BadInput, match="'seeds' is unknown in scorecard"):
        parameters.validate("scorecard", {"seeds": 3})
    assert not registry.measures("scorecard")
    assert registry.notebooks()[-1] == "scorecard"
    assert "scorecard" not in registry.findings()


def test_every_network_has_the_number_that_its_verdict_was_judged_by(cifar: dict[str, reading.Measured], networks: pd.DataFrame) -> None:
    for claim, finding in (("SHP-1", "shape_bias"), ("SIM-2", "simplicity_biases"), ("SIM-4", "simplicity_biases")):
        source = "SHP-9" if claim == "SHP-1" else claim  # of the original stimuli, the same rows
        (entry,) = (one for one in cifar[finding].results["claims"] if one["id"] == source)
        told = {network: value for arm in ("standard", "robust") for network, value in entry["networks"][arm].items()}
        rows = networks[(networks["claim"] == claim) & (networks["unit"] == "value") & (networks["quantity"] == CLAIMS[claim].quantity)]
        assert len(told) == 10
        found = rows.set_index("network")["value"]
        assert {name: found[name] for name in told} == {name: pytest.approx(value, rel=1e-5) for name, value in told.items()}


def test_an_interval_is_over_images_and_holds_its_number(networks: pd.DataFrame) -> None:
    wide = networks[networks["claim"] != "networks"].pivot_table(index=["claim", "quantity", "network"], columns="unit", values="value")
    has = wide.dropna()
    assert (has["low"] < has["value"]).all()
    assert (has["value"] < has["high"]).all()
    assert set(has.index.unique("claim")) == {"SHP-1", "SIM-3"}  # hidden units, of the others, do not correspond
    half = (has["high"] - has["low"]).loc["SHP-1", "shape_bias"] / 2
    share, n = (
        has["value"].loc["SHP-1", "shape_bias"],
        210 * has["value"].loc["SHP-1", "coverage"],
    )  # of 210 stimuli, those answered by a cue
    assert np.allclose(half, 1.96 * np.sqrt(share * (1 - share) / n), rtol=0.1)


def test_a_network_has_one_role_and_both_accuracies(networks: pd.DataFrame) -> None:
    assert (networks.groupby("network")["arm"].nunique() == 1).all()
    cards = networks[networks["claim"] == "networks"]
    assert set(cards["quantity"]) == set(tables.ACCURACIES)
    assert set(networks["network"]) == set(cards["network"])


def test_shares_are_those_of_the_verdicts_and_of_nothing_unanswered(cifar: dict[str, reading.Measured]) -> None:
    rows = tables.changes(cifar)
    answered = set()
    for of in cifar.values():
        for entry in of.results["claims"]:
            shares = {one["name"]: one["share"] for one in entry["controls"] if one["share"] is not None}
            found = rows[(rows["claim"] == entry["id"]) & (rows["unit"] == "value")].set_index("arm")["value"]
            if entry["verdict"].partition(" (")[0] not in ("supported", "contradicted"):
                assert found.empty
                continue
            answered.add(entry["id"])
            assert {name: found[name] for name in shares} == {name: pytest.approx(share, rel=1e-4) for name, share in shares.items()}
    assert {"SIM-3", "SHP-10"} <= answered


def test_effects_are_in_smallest_effects_and_above_zero_as_claimed() -> None:
    entry = {"id": "INV-2", "quantity": "distance_ratio", "arms": ["standard", "robust"], "estimate": -0.1, "low": -0.15, "high": -0.05}
    rows = tables.effects([{"scale": "laptop", "claims": [entry]}], CLAIMS)  # less is claimed, .05 counts
    assert tables.read_off(rows, claim="INV-2", unit_2="laptop") == (pytest.approx(2), pytest.approx(1), pytest.approx(3))
    assert tables.effects([{"scale": "laptop", "claims": [entry | {"estimate": None}]}], CLAIMS).empty
    with pytest.raises(BadInput, match="no row of claim INV-2, unit_2 cifar"):
        tables.read_off(rows, claim="INV-2", unit_2="cifar")


def planted(n: int) -> tuple[pd.DataFrame, list[reading.Property]]:
    """n recipes of one architecture, two seeds each and an untrained network, with two properties and clean accuracy."""
    wanted = [
        reading.Property("one", CLAIMS["SHP-1"], "shape_bias", True),
        reading.Property("other", CLAIMS["SIM-3"], "high_minus_low", True),
    ]
    rows: list[dict[str, Any]] = []
    generator = np.random.default_rng(0)
    for k in range(n):
        for seed in (0, 1):
            who = {
                **tables.NOBODY,
                "arm": "robust",
                "recipe": f"r{k}",
                "architecture": "w8",
                "seed": seed,
                "network": f"{k}-{seed}",
                "unit": "value",
            }
            for claim, quantity in (("networks", "clean_accuracy"), ("SHP-1", "shape_bias"), ("SIM-3", "high_minus_low")):
                rows.append({**who, "claim": claim, "quantity": quantity, "value": k + seed + generator.normal()})
    rows.append(
        {
            **tables.NOBODY,
            "arm": "untrained",
            "recipe": "untrained",
            "network": "u",
            "unit": "value",
            "claim": "SHP-1",
            "quantity": "shape_bias",
            "value": 9.0,
        }
    )
    return pd.DataFrame(rows), wanted


def test_a_point_is_a_recipe_and_architecture_and_a_coefficient_needs_twelve() -> None:
    table = tables.points(*planted(12))
    assert table.shape == (12, 4)
    rows, _ = planted(12)
    of_third = rows[(rows["recipe"] == "r3") & (rows["claim"] == "SHP-1")]["value"]
    assert table.loc[("r3", "w8"), "one"] == pytest.approx(of_third.mean())
    found = tables.coefficient(table, "one", "other")
    assert found == pytest.approx(partial_rank_correlation(*(table[name].to_numpy() for name in ("one", "other", "clean accuracy"))))
    assert tables.coefficient(table, "one", "clean accuracy") is None
    assert tables.coefficient(tables.points(*planted(11)), "one", "other") is None


def words(figure: Figure) -> str:
    return " ".join(text.get_text().replace("\n", " ") for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def test_figures_say_what_they_show(cifar: dict[str, reading.Measured], networks: pd.DataFrame) -> None:
    results = [of.results for of in cifar.values()]
    drawn = words(figures.ledger(tables.effects(results, CLAIMS), results, CLAIMS))
    assert "SIM-3 " in drawn
    assert "INV-1" not in drawn
    drawn = words(figures.heat_map(networks, reading.properties(cifar)))
    assert "accuracy-matched s2" in drawn
    assert "shape bias" in drawn
    assert "12 points" not in words(figures.together(tables.points(*planted(11)), planted(1)[1]))
    assert "12 points" in words(figures.together(tables.points(*planted(12)), planted(1)[1]))
    shares = tables.changes(cifar)
    assert "SIM-5 (contradicted)" in words(figures.what_else(shares, CLAIMS, {"SIM-5"}))
    assert "no change" in words(figures.what_else(shares.iloc[:0], CLAIMS))


def test_the_heat_maps_colours_are_distances_from_standard_networks_of_the_same_architecture(networks: pd.DataFrame) -> None:
    with style.context():
        (mesh,) = figures.heat_map(networks, [one for one in planted(1)[1] if one.label == "other"]).axes[0].collections
    away = np.ma.filled(mesh.get_array(), np.nan)
    assert np.isnan(away[:, :2]).all()  # accuracies are told, not coloured
    assert np.nanmax(away) > 5  # robust networks respond far less to high frequencies, which is as claimed
    assert abs(np.nanmean(away[:5, 2])) < 1e-9  # the five standard ones lie around their mean


@pytest.mark.parametrize("scale", ["laptop", "cifar"])
def test_the_committed_scorecard_was_drawn_from_the_committed_rows(scale: str) -> None:
    folder = ROOT / "figures" / scale / "scorecard"
    assert audit(folder) == []
    there = {path.parent.name for path in (ROOT / "figures" / scale).glob("*/results.json")} - {"scorecard"}
    assert {Path(name).parent.name for name in json.loads((folder / "results.json").read_text())["provenance"]["data"]} == there
