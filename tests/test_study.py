from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

import reprolib
from reprolib import data, scales, store
from reprolib.display import markdown_table
from reprolib.errors import BadInput, CorruptFile, MissingData, StorageError
from reprolib.judging.claims import judge_finding
from reprolib.judging.evidence import Evidence
from reprolib.judging.tidy import identity, read_rows, write_rows
from reprolib.models.networks import build
from reprolib.study import Study
from reprolib.training import zoo


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
        "Writes to figures/rerun/custom/",
    ):
        assert words in said


def test_a_role_the_scale_does_not_have_is_named(study: Study) -> None:
    with pytest.raises(BadInput, match=r"role 'robst' is not at scale smoke; allowed: .*did you mean 'robust'"):
        study.networks("robst")


def planted(monkeypatch: pytest.MonkeyPatch, made: dict[str, dict[str, object]]) -> list[str]:
    """Stand-ins for networks of smoke by name, with these entries on their cards; returns the list of what is asked to be trained."""
    asked: list[str] = []

    def load(spec: zoo.Spec, device: str) -> SimpleNamespace:
        return SimpleNamespace(card={"name": spec.name, **made[spec.name]}, sha256="0" * 64)

    def train(specs: list[zoo.Spec], *more: object) -> None:
        asked.extend(spec.name for spec in specs)

    monkeypatch.setattr(zoo.Spec, "path", property(lambda spec: store.root() / ("pyproject.toml" if spec.name in made else "nowhere")))
    monkeypatch.setattr("reprolib.roles.zoo.load", load)
    monkeypatch.setattr("reprolib.roles.zoo.card_of", lambda spec: made.get(spec.name))
    monkeypatch.setattr("reprolib.roles.zoo.not_applicable", lambda spec: "")
    monkeypatch.setattr("reprolib.roles.pool.train_specs", train)
    return asked


def names(nets: dict[str, list]) -> dict[str, list[str]]:
    return {role: [network.card["name"] for network in found] for role, found in nets.items()}


ALL = ("std", "l2_075", "l2_025", "gauss_20", "blur", "std_matched", "untrained")


def test_without_roles_every_role_that_findings_share_is_given_the_arms_first(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = planted(monkeypatch, {f"tinycnn-{recipe}-s0": {} for recipe in ALL})
    found = names(study.networks())
    assert list(found) == ["standard", "robust", "robust_small", "gauss", "blur", "std_matched", "untrained"]
    assert found["standard"] == ["tinycnn-std-s0"]
    assert found["robust_small"] == ["tinycnn-l2_025-s0"]
    assert asked == []


def test_what_a_scale_does_not_train_on_demand_comes_back_empty_with_the_command(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = planted(monkeypatch, {"tinycnn-std-s0": {}, "tinycnn-l2_075-s0": {}})
    study.settings = replace(study.settings, scale=replace(scales.SMOKE, on_demand=("standard", "robust", "untrained")))
    capsys.readouterr()
    found = names(study.networks("standard", "robust", "gauss", "blur", "untrained"))
    assert asked == ["tinycnn-untrained-s0"]
    assert found["standard"] == ["tinycnn-std-s0"]
    assert found["gauss"] == found["blur"] == []
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert said[0].startswith("Not trained yet: tinycnn-gauss_20-s0, tinycnn-blur-s0")
    assert "`reprolib train --scale smoke --only tinycnn-gauss_20-s0 --only tinycnn-blur-s0" in said[0]


def test_a_scale_that_trains_on_demand_trains_what_is_missing_and_nothing_else(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = planted(monkeypatch, {"tinycnn-std-s0": {}})
    study.networks("standard", "blur")
    assert asked == ["tinycnn-blur-s0"]


def test_a_matched_control_that_does_not_match_is_left_out_and_said_so(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    match = {"matched": False, "distance": 0.034, "robust": "tinycnn-l2_075-s0"}
    planted(monkeypatch, {"tinycnn-std_matched-s0": {"matching": match}})
    capsys.readouterr()
    assert names(study.networks("std_matched")) == {"std_matched": []}
    assert capsys.readouterr().out == "tinycnn-std_matched-s0 is left out: the nearest state is 3.4 points from tinycnn-l2_075-s0.\n"
    planted(monkeypatch, {"tinycnn-std_matched-s0": {"matching": match | {"matched": True}}})
    assert names(study.networks("std_matched")) == {"std_matched": ["tinycnn-std_matched-s0"]}


def test_a_matched_control_that_is_not_applicable_is_not_asked_for_and_said_so(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = planted(monkeypatch, {})
    monkeypatch.setattr("reprolib.roles.zoo.not_applicable", lambda spec: "they are equally accurate")
    capsys.readouterr()
    assert names(study.networks("std_matched")) == {"std_matched": []}
    assert asked == []
    assert capsys.readouterr().out == "tinycnn-std_matched-s0 is not applicable: they are equally accurate.\n"


def test_the_judges_may_come_from_another_scale(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {spec.scale for spec in study._judge_specs().values()} == {"smoke"}
    monkeypatch.setattr(study, "settings", replace(study.settings, scale=scales.GPU))
    assert {kind: (spec.scale, spec.name) for kind, spec in study._judge_specs().items()} == {
        "standard": ("cifar", "w8-std-s0"),
        "robust": ("cifar", "w8-l2_05-s0"),
    }


def test_finishing_without_rows_is_refused(study: Study) -> None:
    with pytest.raises(BadInput, match="there are no rows yet"):
        study.finish()


def test_finishing_writes_rows_and_verdicts(study: Study, tmp_path: Path) -> None:
    study.add(rows_of(tmp_path))
    study.claim("INV-2")
    assert study.verdicts["INV-2"]["estimate"] == pytest.approx(-0.4)
    study.finish()
    results = json.loads((study.folder / "results.json").read_text())
    assert list(study.verdicts) == [claim["id"] for claim in results["claims"]]
    assert set(results) == {"finding", "scale", "measured", "claims_sha256", "claims", "figures", "provenance"}
    assert {"tree", "commit", "parameters", "seeds", "threads", "versions", "hardware", "data", "seconds"} <= set(results["provenance"])


def test_rows_may_be_added_section_by_section_and_added_again(study: Study, tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    study.add(rows[rows["claim"] == "networks"])
    study.add(rows[rows["claim"] == "INV-2"].assign(value=0.0))
    study.claim("INV-2")
    assert study.verdicts["INV-2"]["estimate"] == 0
    study.add(rows[rows["claim"] == "INV-2"])  # the cell was run again
    study.claim("INV-2")
    assert study.verdicts["INV-2"]["estimate"] == pytest.approx(-0.4)
    assert len(study.rows) == len(rows)


def brightness(network: torch.nn.Module, images: data.Images) -> dict[str, torch.Tensor]:
    return {"brightness": images.x.float().flatten(1).mean(dim=1) + network.offset}


def test_showing_the_cards_adds_what_the_manipulation_check_reads(study: Study, tmp_path: Path) -> None:
    card = {
        "name": "n", "description": {"recipe": {"id": "std"}, "architecture": "tinycnn", "seed": 0}, "clean": {"value": 0.9, "first_value": 0.8},
        "adversarial": [{"norm": "l2", "eps": 0.5, "steps": 20, "restarts": 3, "first_value": 0.1, "noise": 0.7, "gradient_zero_share": 0.0}],
    }  # fmt: skip
    study.cards({"standard": [SimpleNamespace(card=card, sha256="ab" * 32)]})
    found = study.rows.set_index("quantity")["value"].to_dict()
    assert found == {"clean_accuracy": 0.8, "adversarial_accuracy": 0.1, "noise_accuracy": 0.7, "gradient_zero_share": 0.0}
    own = study.rows.assign(value=0.5)
    study.add(own)
    study.cards({"standard": [SimpleNamespace(card=card, sha256="ab" * 32)]})
    assert set(study.rows["value"]) == {0.5}  # a finding's own ball counts


def test_a_question_is_asked_of_every_network_once_and_again_where_it_changed(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPROLIB_CACHE", str(tmp_path / "cache"))
    images, asked = study.images(), []

    def network(seed: int) -> SimpleNamespace:
        card = {"name": f"n{seed}", "description": {"recipe": {"id": "std"}, "architecture": "tinycnn", "seed": seed}}
        return SimpleNamespace(card=card, sha256=str(seed) * 64, offset=seed)

    nets = {"standard": [network(0), network(1)]}
    monkeypatch.setattr(study, "report", asked.append)
    rows = study.ask(nets, brightness, images, claim="X-1")
    assert len(rows) == 2 * len(images.x)
    assert list(rows.columns) == [
        "arm",
        "recipe",
        "architecture",
        "seed",
        "network",
        "claim",
        "quantity",
        "unit_2",
        "reached",
        "unit",
        "value",
    ]
    assert rows.groupby("seed")["value"].mean().diff().iloc[-1] == pytest.approx(1)
    assert len(asked) == 2
    pd.testing.assert_frame_equal(study.ask(nets, brightness, images, claim="X-1"), rows)
    assert len(asked) == 2

    def darkness(network: SimpleNamespace, images: data.Images) -> dict[str, torch.Tensor]:
        return {"brightness": -brightness(network, images)["brightness"]}

    assert study.ask(nets, darkness, images, claim="X-1")["value"].mean() == pytest.approx(-rows["value"].mean())
    assert len(asked) == 4
    assert (study.rows["claim"] == "X-1").sum() == len(rows)  # the same rows, with other values

    def wrong(network: SimpleNamespace, images: data.Images) -> dict[str, torch.Tensor]:
        return {"share": torch.zeros(1)}

    with pytest.raises(BadInput, match=r"wrong gives 'share' of shape \(1,\) for \d+ images: one finite number an image is needed"):
        study.ask(nets, wrong, images, claim="X-1")


def test_figures_that_are_removed_while_a_run_draws_are_missed(study: Study, tmp_path: Path) -> None:
    study.add(rows_of(tmp_path))
    study.figure(Figure(), "inversions", "caption", "failure", drawn="INV-2")
    study.finish()
    shutil.rmtree(study.folder)
    with pytest.raises(
        StorageError,
        match=r"invertibility lost inversions\.png, inversions\.pdf, verdicts\.png, .* while the run drew into it: leave it alone",
    ):
        study.finish()
    study.figure(Figure(), "inversions", "caption", "failure", drawn="INV-2")  # the folder is made again
    assert (study.folder / "inversions.png").is_file()


def without_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the repository's committed networks in which CIFAR-10 is nowhere; returns the folder of the cifar figures."""
    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))
    monkeypatch.delenv("REPROLIB_DATA", raising=False)
    for folder in ("reprolib", "notebooks"):
        (tmp_path / folder).mkdir()
    assert not next(row for row in data.status() if row["name"] == "cifar10")["found"]
    return tmp_path / "figures" / "cifar" / "invertibility"


def test_damaged_rows_of_before_are_replaced_where_they_can_be_measured_again(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_rows(study.committed / "rows.csv.gz", rows_of(tmp_path))
    path.write_bytes(path.read_bytes()[:-20])
    capsys.readouterr()
    assert study.committed_rows().empty
    said = capsys.readouterr().out
    assert said.startswith(f"{path} is not a readable csv.gz of rows (")
    assert said.endswith("): what is measured here replaces them, and nothing is carried over.\n")
    rows = rows_of(tmp_path)
    together = pd.concat([rows, study.committed_rows()], ignore_index=True)
    assert together[["seed", "value", "reached"]].dtypes.equals(rows[["seed", "value", "reached"]].dtypes)


def test_damaged_rows_that_nothing_can_replace_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_rows(without_cifar(tmp_path, monkeypatch) / "rows.csv.gz", rows_of(tmp_path))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptFile, match="restore it or run the notebook again$"):
        reprolib.start("invertibility", {"scale": "cifar"})


def test_without_the_images_the_committed_rows_are_judged_and_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = without_cifar(tmp_path, monkeypatch)
    write_rows(folder / "rows.csv.gz", rows_of(tmp_path))
    before = {
        "finding": "invertibility",
        "scale": "cifar",
        "claims": [],
        "claims_sha256": "",
        "provenance": {"tree": "of the run that measured"},
    }
    store.write_json(folder / "results.json", before)
    store.write_bytes(folder / "inversions.png", b"a committed picture")
    study = reprolib.start("invertibility", {"scale": "cifar"})
    assert "CIFAR-10 absent" in capsys.readouterr().out
    assert not study.can_measure
    assert study.networks("standard") == {"standard": []}
    study.figure(None, "inversions", "caption", "failure", drawn="INV-2")
    study.finish()
    assert json.loads((folder / "results.json").read_text()) == before
    assert (study.folder / "inversions.png").read_bytes() == b"a committed picture"
    results = json.loads((study.folder / "results.json").read_text())
    assert results["measured"] == "no (CIFAR-10 absent)"
    assert results["provenance"] == {"tree": "of the run that measured"}
    assert next(claim for claim in results["claims"] if claim["id"] == "INV-2")["estimate"] == pytest.approx(-0.4)
    with pytest.raises(MissingData, match=r"trajectories\.png is not there and cannot be drawn without cifar10"):
        study.figure(None, "trajectories", "caption", "failure", drawn="INV-2")


def test_readers_own_networks_are_measured_beside_the_committed_rows_and_change_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPROLIB_FIGURES", str(tmp_path / "figures"))
    study = reprolib.start("invertibility", {"scale": "smoke"})
    write_rows(study.committed / "rows.csv.gz", rows_of(tmp_path))
    expected = judge_finding("invertibility", Evidence(rows_of(tmp_path), "smoke"))
    mine = [build("tinycnn", n_classes, (0.5,) * 3, (0.5,) * 3, seed) for seed, n_classes in enumerate((7, 10))]
    nets = study.networks(mine=mine)
    said = capsys.readouterr().out
    assert "Only yours is measured" in said
    assert "it has 10 classes, and is left out where labels matter" in said
    assert list(nets) == ["mine"]
    assert study.folder.parent.name == "custom"
    told = {"claim": "INV-2", "quantity": "distance_ratio", "unit_2": "noise_0", "reached": True}
    frames = [
        identity("mine", net) | told | {"unit": str(i), "value": 0.4 + 0.01 * i + k / 50}
        for k, net in enumerate(nets["mine"])
        for i in range(24)
    ]
    study.add(pd.DataFrame([*frames, frames[0] | {"arm": "robust"}]))  # what is measured of others beside is not taken
    study.claim("INV-2")
    assert re.search(r"mine minus standard, in no verdict: distance_ratio -0\.\d+ \[-0\.\d+, -0\.\d+\]\.", capsys.readouterr().out)
    study.finish()
    results = json.loads((study.folder / "results.json").read_text())
    assert results["claims"] == json.loads(json.dumps(expected))
    assert len(read_rows(study.folder / "rows.csv.gz")) == len(rows_of(tmp_path))
    assert set(pd.read_csv(study.folder / "mine.csv")["arm"]) == {"mine"}
    with pytest.raises(BadInput, match="mine holds 2 networks, none or one of them twice"):
        study.networks(mine=[mine[0], mine[0]])


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


def test_of_a_procedural_set_only_the_training_images_asked_for_are_rendered(study: Study) -> None:
    found = study
    first = found.first_training_images(12)
    assert len(first) == 12
    assert torch.equal(first.x, found.images("train").x[:12])
    assert first.name != found.images("train").name
    assert len(found.first_training_images(10**6)) == len(found.images("train"))
