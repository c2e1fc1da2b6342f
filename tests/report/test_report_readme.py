"""What stands in Markdown on the web is what the evidence says: made by `reprolib report`, and in step with it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from reprolib import registry
from reprolib.errors import CorruptFile
from reprolib.report import evidence, readme
from reprolib.run.summary import counts

ROOT = Path(__file__).parents[2]
FOUND = evidence.notebooks(ROOT / "figures")


def test_readme_and_the_page_of_figures_are_in_step_with_the_evidence() -> None:
    page = (ROOT / "README.md").read_text()
    assert readme.filled(page, FOUND) == page, "bring it in step with `reprolib report`"
    assert (ROOT / "figures" / "README.md").read_text() == readme.of_figures(FOUND), "bring it in step with `reprolib report`"


@pytest.mark.parametrize("finding", registry.findings())
@pytest.mark.parametrize("scale", ["laptop", "cifar"])
def test_the_readme_says_what_the_committed_results_say(finding: str, scale: str) -> None:
    (line,) = (line for line in (ROOT / "README.md").read_text().splitlines() if f"notebooks/{finding}.py" in line and line.startswith("|"))
    results = ROOT / "figures" / scale / finding / "results.json"
    assert f"{scale}: {counts(json.loads(results.read_text())) if results.exists() else 'not measured yet'}." in line


def test_every_finding_is_told_in_a_sentence_at_its_best_scale() -> None:
    page = (ROOT / "README.md").read_text()
    lines = page.partition("<!-- found -->\n")[2].partition("<!-- /found -->")[0].splitlines()
    assert len(lines) == len(registry.findings())
    assert all(line.startswith("- **") and any(digit in line for digit in "0123456789") for line in lines)


def test_an_interval_in_a_sentence_is_one_of_the_results_rounded_once() -> None:
    said = []
    for there in FOUND.values():
        for notebook in there.values():
            known = [one for claim in notebook.results["claims"] for one in (claim, *claim["parts"]) if one["low"] is not None]
            for told in re.finditer(r"([+-]?\d*\.\d+) \[([+-]?\d*\.\d+), ([+-]?\d*\.\d+)\]", notebook.abstract):
                half = 0.5 * 10.0 ** -len(told[1].partition(".")[2])
                numbers = [float(number) for number in told.groups()]
                said.append(told[0])
                assert any(
                    all(abs(number - one[key]) <= half * 1.001 for number, key in zip(numbers, ("estimate", "low", "high"), strict=True))
                    for one in known
                ), f"{notebook.scale}/{notebook.name}: {told[0]}"
    assert len(said) > 10


def test_a_readme_that_lost_its_marks_is_left_alone() -> None:
    page = (ROOT / "README.md").read_text()
    for mark in ("<!-- found -->\n", "<!-- /findings -->"):
        with pytest.raises(CorruptFile, match=f"README.md has no {mark.strip().replace('/', '')}"):
            readme.filled(page.replace(mark, ""), FOUND)


def test_the_ledger_on_the_web_has_a_row_a_claim() -> None:
    rows = [line for line in readme.of_figures(FOUND).splitlines() if line.startswith("| ") and "-" in line.split("|")[1]]
    assert [row.split("|")[1].strip() for row in rows] == [line.id for line in evidence.ledger(FOUND)]
    assert all(row.count("|") - row.count("\\|") == len(rows[0].split("|")) - 1 for row in rows)


@pytest.mark.parametrize("name", ["README.md", "docs/library.md", "figures/README.md", "data/README.md"])
def test_every_link_of_a_page_leads_to_a_file(name: str) -> None:
    page = ROOT / name
    targets = [target for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()) if "://" not in target]
    assert targets or name == "data/README.md"
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
