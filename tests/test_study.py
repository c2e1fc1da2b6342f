from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import reprolib
from reprolib import data, store
from reprolib.errors import BadInput, MissingData
from reprolib.results.tidy import write_rows
from reprolib.study import Study, injected_names, markdown_table


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setenv("REPROLIB_FIGURES", str(tmp_path / "figures"))
    return reprolib.start("invertibility", {"scale": "smoke"})


def rows_of(tmp_path: Path) -> pd.DataFrame:
    """Planted rows of INV-2 for two networks an arm."""
    rows = []
    for arm, recipe, value in (("standard", "std", 0.9), ("robust", "l2_05", 0.5)):
        for seed in (0, 1):
            base = {
                "arm": arm,
                "recipe": recipe,
                "architecture": "w8",
                "seed": seed,
                "network": f"{arm}{seed}",
                "unit_2": "",
                "reached": True,
            }
            rows += [
                base
                | {
                    "claim": "INV-2",
                    "quantity": "distance_ratio",
                    "unit": str(i),
                    "unit_2": "noise_0",
                    "value": value + 0.001 * (i % 7) + 0.002 * seed,
                }
                for i in range(24)
            ]
            rows.append(
                base | {"claim": "networks", "quantity": "adversarial_accuracy", "unit": "test", "value": 0.9 if arm == "robust" else 0.1}
            )
    return pd.DataFrame(rows)


def test_starting_says_what_it_costs_and_where_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPROLIB_ZOO", str(tmp_path / "zoo"))
    reprolib.start("invertibility", {"scale": "smoke", "steps": 40})
    said = capsys.readouterr().out
    for words in (
        "invertibility at scale smoke",
        "Turned: steps=40",
        "To train first: tinycnn-std-s0",
        "minutes of one core",
        "Writes to figures/custom/",
    ):
        assert words in said


def test_injected_names_are_those_of_papermills_cell_alone() -> None:
    cells = ["", "x = 1", '# Parameters\nscale = "smoke"\nsteps = 40\n', "y = 2"]
    assert injected_names({"In": cells}) == ["scale", "steps"]
    assert injected_names({}) == []


def test_a_role_the_scale_does_not_have_is_named(study: Study) -> None:
    with pytest.raises(BadInput, match=r"role 'robst' is not at scale smoke; allowed: .*did you mean 'robust'"):
        study.networks("robst")


def test_finishing_without_rows_is_refused(study: Study) -> None:
    with pytest.raises(BadInput, match="no rows to judge"):
        study.finish()


def test_finishing_writes_rows_and_verdicts(study: Study, tmp_path: Path) -> None:
    rows = study.rows(rows_of(tmp_path))
    study.claim("INV-2", rows)
    assert study.verdicts["INV-2"]["estimate"] == pytest.approx(-0.4)
    study.finish()
    results = json.loads((study.folder / "results.json").read_text())
    assert list(study.verdicts) == [claim["id"] for claim in results["claims"]]
    assert set(results) == {"finding", "scale", "measured", "claims_sha256", "claims", "figures", "provenance"}
    assert {"tree", "commit", "parameters", "seeds", "threads", "versions", "hardware", "data", "seconds"} <= set(results["provenance"])


def without_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the repository's committed networks in which CIFAR-10 is nowhere; returns the folder of the cifar figures."""
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    monkeypatch.delenv("REPROLIB_DATA", raising=False)
    for folder in ("reprolib", "notebooks"):
        (tmp_path / folder).mkdir()
    assert not next(row for row in data.status() if row["name"] == "cifar10")["found"]
    return tmp_path / "figures" / "cifar" / "invertibility"


def test_without_the_images_the_committed_rows_are_judged_and_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = without_cifar(tmp_path, monkeypatch)
    write_rows(folder / "rows.csv.gz", rows_of(tmp_path))
    store.write_json(folder / "results.json", {"provenance": {"tree": "of the run that measured"}})
    store.write_bytes(folder / "inversions.png", b"a committed picture")
    study = reprolib.start("invertibility", {"scale": "cifar"})
    assert "CIFAR-10 absent" in capsys.readouterr().out
    assert not study.can_measure
    assert study.networks("standard") == {"standard": []}
    study.rows(study.committed_rows())
    study.figure(None, "inversions", "caption", "seen")
    study.finish()
    results = json.loads((folder / "results.json").read_text())
    assert results["measured"] == "no (CIFAR-10 absent)"
    assert results["provenance"] == {"tree": "of the run that measured"}
    assert next(claim for claim in results["claims"] if claim["id"] == "INV-2")["estimate"] == pytest.approx(-0.4)
    with pytest.raises(MissingData, match=r"trajectories\.png is not there and cannot be drawn without cifar10"):
        study.figure(None, "trajectories", "caption", "seen")


def test_without_images_and_without_rows_it_stops_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_cifar(tmp_path, monkeypatch)
    with pytest.raises(MissingData, match=r"laptop"):
        reprolib.start("invertibility", {"scale": "cifar"})


def test_a_turned_knob_never_stands_on_committed_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = without_cifar(tmp_path, monkeypatch)
    write_rows(folder / "rows.csv.gz", rows_of(tmp_path))
    with pytest.raises(MissingData):
        reprolib.start("invertibility", {"scale": "cifar", "steps": 50})


def test_bars_inside_a_table_are_escaped() -> None:
    assert markdown_table(pd.DataFrame({"a": ["x|y"], "b": [1]})) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |"
