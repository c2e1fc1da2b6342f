"""Somebody else's pair: read only if it is the one that is meant, measured like ours, and in no claim's rows."""

import pandas as pd
import problems
import pytest
import torch
from inverses import asked, carded, planted_set

from reprolib import store
from reprolib.errors import CorruptFile
from reprolib.findings.invertibility import external, inverting
from reprolib.findings.invertibility.external import external_table
from reprolib.findings.invertibility.inverting import Eyes, make_task
from reprolib.judging.tidy import rounded


@pytest.fixture(scope="module")
def task():
    return make_task(planted_set(), 8, 1)


def measured(pair, task, **knobs):
    """What the section tells of a pair, on the planted images."""
    eyes = Eyes({"standard": problems.network(seed=5), "robust": problems.network(seed=6)})
    inversions = asked({}, eyes, task, eps=0.1, **knobs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(external, "DATASET", inversions.study.settings.scale.dataset)
        patch.setattr(external, "networks", lambda device: pair)
        return external.of(inversions)


@pytest.fixture(scope="module")
def part(task):
    return measured({"external_standard": carded(0, "ext_s"), "external_robust": carded(1, "ext_r")}, task, steps=60, step=0.1, pool=2)


def test_without_its_files_there_is_no_pair_and_there_are_no_rows(repository, monkeypatch, task):
    monkeypatch.delenv("REPROLIB_DATA", raising=False)
    assert external.networks() == {}
    assert measured({}, task).rows.empty
    assert external_table(rounded(_rows_of_ours())) is None


def test_one_file_of_two_is_no_pair_and_another_file_of_that_name_is_refused(repository, monkeypatch):
    monkeypatch.delenv("REPROLIB_DATA", raising=False)
    path = repository / "data" / "networks" / external.PAIR["external_standard"].file
    store.write_bytes(path, b"another network")
    with pytest.raises(CorruptFile, match=external.PAIR["external_standard"].sha256[:12]):
        external.networks()
    path.unlink()
    store.write_bytes(path.with_name(external.PAIR["external_robust"].file), b"another network")
    assert external.networks() == {}


def test_the_real_pair_is_carded_as_theirs():
    pair = external.networks()
    if not pair:
        pytest.skip("no folder networks/ in REPROLIB_DATA or data/: the public networks are not here")
    assert list(pair) == ["external_standard", "external_robust"]
    for network, recipe in zip(pair.values(), ("ehanw_std", "ehanw_pgd"), strict=True):
        assert network.card["description"] == {"recipe": {"id": recipe}, "architecture": "resnet20", "seed": 0}
        assert network.card["is_verified"]
        assert inverting.last_map_px(network, 32) >= 4  # so that it has the deciding code


def test_its_rows_are_those_of_inv_1_to_3_and_no_claims(part, task):
    rows = part.rows
    assert len(rounded(rows)) == len(rows)
    assert set(rows["claim"]) == {"external"}
    assert set(rows["arm"]) == set(external.PAIR)
    for quantity, starts in (
        ("distance_ratio", {"noise_0", "image"}), ("ssim", {"noise_0", "image"}), ("reach@0.2", {"noise_0", "image"}),
        ("recognised", {"noise_0"}), ("recognised_start", {"image"}),
    ):  # fmt: skip
        found = rows[rows["quantity"] == quantity]
        assert set(found["unit_2"]) == starts, quantity
        assert len(found) == 2 * len(starts) * 8, quantity


def test_its_deciding_tau_comes_from_its_own_reach(part):
    rows, chosen = part.rows, set()
    for start in ("noise_0", "image"):
        here = rows[rows["unit_2"] == start]
        shares = here[here["quantity"].str.startswith("reach@")].groupby(["quantity", "network"])["value"].mean().groupby("quantity").min()
        enough = [float(name.removeprefix("reach@")) for name, share in shares.items() if share >= 0.9]
        tau = min(enough, default=0.5)
        values = {q: here[here["quantity"] == q]["value"].tolist() for q in ("distance_ratio", f"distance_ratio@{tau:g}")}
        assert values["distance_ratio"] == values[f"distance_ratio@{tau:g}"]
        chosen.add(tau)
    assert min(chosen) < 0.5  # else the largest, which stands in where there is nothing to choose by, would do as well


def test_no_more_targets_than_needed_are_asked_of_these_larger_networks(monkeypatch, task):
    monkeypatch.setattr(external, "N_TARGETS", 3)
    rows = measured({"external_standard": carded(0, "x")}, task, steps=4, step=0.2, pool=2).rows
    assert set(rows[rows["quantity"] == "distance_ratio"]["unit"]) == {str(i) for i in task.ids[:3]}


def test_the_table_shows_the_means_of_each_network(part):
    table, rows = external_table(part.rows), part.rows
    assert table is not None
    assert table["network"].tolist() == ["external_standard", "external_robust"]
    robust = rows[rows["arm"] == "external_robust"]
    noise = robust[(robust["quantity"] == "distance_ratio") & (robust["unit_2"] == "noise_0")]["value"].mean()
    assert table["distance"].tolist()[1] == pytest.approx(noise, abs=6e-4)
    images = planted_set()
    clean = (problems.network(seed=1)(images.x.float() / 255).argmax(dim=1) == images.y).float().mean().item()
    assert table["clean accuracy"].tolist()[1] == pytest.approx(clean, abs=6e-4)
    assert (table["accuracy under attack"] <= table["clean accuracy"]).all()
    assert table.notna().all().all()


def test_a_task_cut_short_is_the_first_part_of_the_task(task):
    few = task.first(3)
    assert few.ids == task.ids[:3]
    assert torch.equal(few.targets, task.targets[:3])
    assert torch.equal(few.start_y, task.start_y[:3])
    assert all(torch.equal(few.starts[name], start[:3]) for name, start in task.starts.items())
    assert torch.equal(few.typical, task.typical)


def _rows_of_ours():
    return pd.DataFrame([{
        "claim": "INV-2", "quantity": "distance_ratio", "arm": "standard", "recipe": "std", "architecture": "w8", "seed": 0,
        "network": "ours", "unit": "1", "unit_2": "noise_0", "value": 1.0, "reached": True,
    }])  # fmt: skip
