"""The gallery: everything that is told of the evidence is there, escaped, and nothing asks a network for anything."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from reprolib import cli
from reprolib.errors import BadInput, CorruptFile, MissingData
from reprolib.judging.audit import claims_hash, strict
from reprolib.report import evidence, gallery
from reprolib.run import runner

ROOT = Path(__file__).parents[2]
EVIL = "<script>alert(1)</script>"


class Links(HTMLParser):
    """Every tag of a page, and everything that a browser would follow or fetch."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.followed: list[str] = []
        self.names: list[str] = []
        self.text = ""
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        told = dict(attrs)
        self.names += [told["id"] or ""] if "id" in told else []
        self.followed += [told["href"] or ""] if tag == "a" and "href" in told else []
        self.fetched += [
            value or "" for name, value in attrs if name in ("src", "srcset", "data", "poster", "action") or (name == "href" and tag != "a")
        ]

    def handle_data(self, data: str) -> None:
        self.text += data


def copied(scale: str, finding: str, base: Path) -> Path:
    """A finding's committed evidence, but for its pdfs, in another folder."""
    source, target = ROOT / "figures" / scale / finding, base / scale / finding
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.suffix in (".png", ".json", ".toml", ".md"):
            shutil.copy(path, target / path.name)
    for name in [file for figure in json.loads((source / "results.json").read_text())["figures"] for file in figure["files"]]:
        (target / name).exists() or (target / name).write_bytes(b"%PDF")
    return target


@pytest.fixture
def base(repository: Path) -> Path:
    """Figures of two findings at cifar, one of them at laptop too, in a repository of their own."""
    for scale, finding in (("cifar", "shape_bias"), ("cifar", "block_structure"), ("laptop", "shape_bias")):
        copied(scale, finding, repository / "figures")
    return repository / "figures"


def planted(folder: Path, figures: list[dict[str, object]] | None = None, **changed: object) -> None:
    """Change fields of the first claim, or the figures, of a results.json."""
    path = folder / "results.json"
    results = json.loads(path.read_text())
    results["claims"][0].update(changed)
    results["figures"] = results["figures"] if figures is None else figures
    path.write_text(json.dumps(results))


def test_a_page_holds_every_figure_claim_and_sentence_of_its_scale(base: Path) -> None:
    pages = gallery.write(base)
    assert [page.relative_to(base) for page in pages] == [Path("laptop/index.html"), Path("cifar/index.html")]
    page, text = Links(base / "cifar" / "index.html"), (base / "cifar" / "index.html").read_text()
    for finding in ("shape_bias", "block_structure"):
        results = json.loads((base / "cifar" / finding / "results.json").read_text())
        for entry in results["claims"]:
            assert entry["id"] in page.text
        for figure in results["figures"]:
            assert f'src="{finding}/{figure["name"]}.png"' in text
            assert figure["caption"] in page.text
            assert figure["failure"] in page.text
    assert "Not looked at yet" not in page.text
    assert "reprolib run shape_bias --scale cifar" in page.text
    assert text.count("not measured</td>") == 9  # of block structure at laptop
    assert page.tags.count("img") == sum(
        len(json.loads((base / "cifar" / name / "results.json").read_text())["figures"]) for name in ("shape_bias", "block_structure")
    )


def test_nothing_is_fetched_from_outside_and_every_link_leads_somewhere(base: Path) -> None:
    gallery.write(base)
    pages = [*base.rglob("index.html")]
    assert len(pages) == 5
    for path in pages:
        page = Links(path)
        assert not {"link", "iframe", "object", "embed"} & set(page.tags)
        for target in page.fetched:
            assert (path.parent / unquote(target)).is_file(), target
        for target in page.followed:
            parts = urlsplit(target)
            if parts.scheme:
                assert (parts.scheme, parts.netloc) in (("https", "arxiv.org"), ("https", "github.com")), target
                continue
            there = path.parent / unquote(parts.path) if parts.path else path
            assert there.exists(), target
            if parts.fragment and there.suffix == ".html":
                assert parts.fragment in Links(there).names, target


def test_texts_are_texts_wherever_they_come_from(base: Path) -> None:
    folder = base / "cifar" / "shape_bias"
    results = json.loads((folder / "results.json").read_text())
    figures = [{**figure, "caption": f"A caption {EVIL}", "failure": EVIL} for figure in results["figures"]]
    planted(folder, figures, verdict=f"not run ({EVIL})", specificity=EVIL)
    seen = folder / "seen.toml"
    first = results["figures"][0]
    seen.write_text(f'[{first["name"]}]\nrows = "{first["rows"]}"\ntext = "{EVIL}"\n')
    code = f"<details>\n<summary>Code</summary>\n\n```python\n{EVIL}\n```\n\n</details>"
    blocks = [
        f"# A page {EVIL}",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        code,
        "<!-- a note -->",
        f"| a |\n|---|\n| {EVIL} |",
    ]
    (folder / "README.md").write_text("\n\n".join(blocks) + "\n")
    gallery.write(base, ["cifar"])
    page, notebook = Links(base / "cifar" / "index.html"), Links(folder / "index.html")
    assert page.tags.count("script") == 1
    assert EVIL in page.text
    assert not {"script", "img"} & set(notebook.tags)
    assert notebook.tags.count("details") == notebook.tags.count("summary") == 1
    assert notebook.text.count(EVIL) == 3
    assert "a note" not in notebook.text
    assert not [target for target in notebook.followed if target.startswith("javascript")]


def test_a_sentence_on_other_numbers_is_none(base: Path) -> None:
    folder = base / "cifar" / "shape_bias"
    told = evidence.notebooks(base)["cifar"]["shape_bias"]
    assert told.abstract
    assert all(picture.seen for picture in told.pictures)
    planted(folder, estimate=0.5)
    told = evidence.notebooks(base)["cifar"]["shape_bias"]
    assert told.abstract == ""
    assert any("the sentence on what was found is missing or stale" in line for line in strict(folder))
    results = json.loads((folder / "results.json").read_text())
    planted(folder, [{**figure, "rows": "another"} for figure in results["figures"]])
    assert not any(picture.seen for picture in evidence.notebooks(base)["cifar"]["shape_bias"].pictures)
    gallery.write(base, ["cifar"])
    assert "Not looked at yet" in (base / "cifar" / "index.html").read_text()


def test_the_hash_of_a_finding_is_over_both_answers_and_the_interval() -> None:
    results = json.loads((ROOT / "figures" / "cifar" / "shape_bias" / "results.json").read_text())
    now = claims_hash(results)
    for key, value in (("verdict", "negligible"), ("specificity", "specific"), ("low", -9.0)):
        other = json.loads(json.dumps(results))
        other["claims"][1][key] = value
        assert claims_hash(other) != now
    results["claims"][1]["reason"] = "another sentence"
    assert claims_hash(results) == now


def test_a_run_of_ones_own_is_shown_with_the_sentences_on_the_same_numbers(base: Path) -> None:
    own = copied("cifar", "shape_bias", base / "rerun")
    (own / "seen.toml").unlink()
    (page,) = gallery.write(base / "rerun")
    assert page == base / "rerun" / "cifar" / "index.html"
    assert evidence.notebooks(base / "rerun")["cifar"]["shape_bias"].abstract
    assert "Not looked at yet" not in page.read_text()


def test_a_run_ends_with_its_gallery_and_a_gallery_that_fails_fails_no_run(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = copied("cifar", "shape_bias", base / "rerun")
    ended = runner.RunResult(
        "completed", finding="shape_bias", scale="cifar", exit_code=0, seconds=1.0, notebook=own / "x.ipynb", folder=own
    )
    monkeypatch.setattr(runner, "run", lambda *arguments, **options: [ended])
    assert cli.main(["run", "shape_bias", "--scale", "cifar"]) == 0
    assert capsys.readouterr().out.endswith("gallery: figures/rerun/cifar/index.html\n")
    assert (base / "rerun" / "cifar" / "index.html").is_file()
    (own / "README.md").unlink()
    assert cli.main(["run", "shape_bias", "--scale", "cifar"]) == 0
    said = capsys.readouterr()
    assert "gallery" not in said.out
    assert "reprolib: no gallery: figures/rerun/cifar/shape_bias/README.md is not there" in said.err
    assert cli.main(["run", "shape_bias", "--scale", "cifar", "-p", "seeds", "2"]) == 0
    assert "gallery" not in capsys.readouterr().err


def test_a_notebook_without_claims_comes_first(base: Path) -> None:
    shutil.copytree(base / "cifar" / "shape_bias", base / "cifar" / "scorecard")
    path = base / "cifar" / "scorecard" / "results.json"
    results = json.loads(path.read_text())
    path.write_text(json.dumps(results | {"finding": "scorecard", "claims": []}))
    gallery.write(base)
    assert [*evidence.notebooks(base)["cifar"]][0] == "scorecard"
    names = Links(base / "cifar" / "index.html").names
    assert names.index("scorecard") < names.index("shape_bias")


def test_two_times_the_same_bytes(base: Path) -> None:
    gallery.write(base)
    first = {path: path.read_bytes() for path in base.rglob("index.html")}
    gallery.write(base)
    assert {path: path.read_bytes() for path in base.rglob("index.html")} == first


def test_what_is_not_there_is_said(base: Path, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MissingData, match="nothing is measured at scale gpu in figures: `reprolib run` measures"):
        gallery.write(base, ["gpu"])
    with pytest.raises(BadInput, match="'cifer' is unknown"):
        gallery.write(base, ["cifer"])
    assert cli.main(["report", "--rerun"]) == 3
    assert "nothing is measured in figures/rerun" in capsys.readouterr().err
    (base / "cifar" / "shape_bias" / "README.md").unlink()
    with pytest.raises(MissingData, match=r"figures/cifar/shape_bias/README.md is not there: restore it"):
        gallery.write(base, ["cifar"])
    first = json.loads((base / "cifar" / "shape_bias" / "results.json").read_text())["figures"][0]["name"]
    (base / "cifar" / "shape_bias" / f"{first}.png").write_bytes(b"GIF89a")
    with pytest.raises(CorruptFile, match="is no png"):
        gallery.write(base, ["cifar"])


def test_a_damaged_file_is_named_in_one_sentence(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = base / "cifar" / "shape_bias"
    kept = (folder / "results.json").read_text()
    planted(folder, verdict="proven")
    with pytest.raises(CorruptFile, match=r"shape_bias/results.json says 'proven' of SHP-1, which is no verdict"):
        gallery.write(base, ["cifar"])
    planted(folder, [{**json.loads(kept)["figures"][0], "files": ["x.pdf"]}])
    with pytest.raises(MissingData, match="a png, which results.json names, cannot be read"):
        gallery.write(base, ["cifar"])
    (folder / "results.json").write_text(kept)
    for seen in ('stimuli = "a word"', '[stimuli]\nrows = "abc"', "[stimuli]\ntext = 3"):
        (folder / "seen.toml").write_text(seen + "\n")
        with pytest.raises(CorruptFile, match=r"seen.toml has no text in \[stimuli\]"):
            gallery.write(base, ["cifar"])


def test_the_head_of_a_page_counts_its_claims_and_every_finding_can_be_filtered(base: Path) -> None:
    gallery.write(base)
    cifar, laptop = (Links(base / scale / "index.html") for scale in ("cifar", "laptop"))
    assert "Data: cifar10. 18 claims of 2 findings: holds 7, does not hold 1, open 7, not run 3." in cifar.text
    for page in (cifar, laptop):  # findings of other scales too: their claims are in the table
        assert "block structure disappears" in page.text
        assert page.tags.count("option") == 2 + 2 + len(evidence.WORDS)


def test_a_notebook_is_shown_with_the_parameters_it_ran_with(base: Path) -> None:
    gallery.write(base)
    assert "Run with seeds = 5, batch_size = 250, n_batches = 40, attack_steps = 20." in (base / "cifar" / "index.html").read_text()
    path = base / "cifar" / "shape_bias" / "results.json"
    results = json.loads(path.read_text())
    assert evidence.notebooks(base)["cifar"]["shape_bias"].parameters.startswith("seeds = 5, ")
    results["provenance"]["parameters"] = {"scale": "cifar", "a_knob_of_old": 3}
    path.write_text(json.dumps(results))
    assert evidence.notebooks(base)["cifar"]["shape_bias"].parameters == ""


def test_a_strip_is_drawn_within_its_ends() -> None:
    drawn = str(gallery.strip((0.0, -1e9, 1e9)))
    assert 'x1="0.0" x2="120.0"' in drawn
    assert 'cx="60.0"' in drawn
    assert "ends" not in str(gallery.strip((1.0, None, None)))
