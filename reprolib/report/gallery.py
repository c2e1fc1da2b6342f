"""The gallery: one page a scale and one a notebook, in HTML that opens from the file system and asks nothing of a network.

Texts are escaped by jinja2; of the Markdown of an executed notebook no raw HTML survives but the tags that fold code away.
"""

from __future__ import annotations

import functools
import html
import itertools
import math
import re
from collections.abc import Mapping
from pathlib import Path

import jinja2
import mistune
from markupsafe import Markup

from reprolib import scales, store
from reprolib.errors import MissingData
from reprolib.report import evidence
from reprolib.report.evidence import Notebook
from reprolib.run import summary

HERE = Path(__file__).parent
FOLDS = re.compile(r"</?details>|<summary>[^<>]*</summary>|<!--.*?-->", re.DOTALL)
WIDTH, HEIGHT, MOST = 120, 14, 40.0  # of a strip, pixels; the smallest effects at its ends
FOOT = "Made by reprolib from results.json, seen.toml and the executed notebooks in this folder; nothing here needs a network."


def write(base: Path, wanted: list[str] | None = None) -> list[Path]:
    """Write base/<scale>/index.html and the notebooks' pages for the scales wanted (default: all there are); return the scales' pages.

    Raises BadInput for an unknown scale, MissingData for one without evidence, CorruptFile for what cannot be read, StorageError.
    """
    found = evidence.chosen(base, wanted)
    written = []
    for scale in wanted or found:
        for notebook in found[scale].values():
            store.write_text(notebook.folder / "index.html", notebook_page(notebook))
        written.append(store.write_text(base / scale / "index.html", scale_page(found, scale)))
    return written


def scale_page(found: Mapping[str, Mapping[str, Notebook]], scale: str) -> str:
    """The page of one scale: what was found, the ledger of all scales, every figure."""
    lines, here = evidence.ledger(found), [*found[scale].values()]
    verdicts = {line.id: line.answers[scale].verdict for line in lines if scale in line.answers}
    claims = [entry for notebook in here for entry in notebook.results["claims"]]
    of = f"{len(claims)} claims of {sum(bool(one.counts) for one in here)} findings: " if claims else ""
    about = f"Data: {scales.scale(scale).dataset}. {of}{summary.counts({'claims': claims})}."
    titles = {one.name: one.title for there in found.values() for one in there.values()}
    return _template("gallery.html.j2").render(
        heading=f"Adversarial robustness and representations: scale {scale}", about=about, scale=scale, columns=[*found], lines=lines,
        scales=[(name, name in found) for name in found], notebooks=here, verdicts=verdicts,
        findings=[(name, titles[name]) for name in dict.fromkeys(line.finding for line in lines)], words=evidence.WORDS, strip=strip, foot=FOOT,
        style=_kept("style.css"), script=_kept("ledger.js"),
    )  # fmt: skip


def notebook_page(notebook: Notebook) -> str:
    """An executed notebook, by the Markdown page beside its figures."""
    try:
        text = (notebook.folder / "README.md").read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise MissingData(
            f"{store.shown(notebook.folder / 'README.md')} is not there: restore it from git, or run the notebook again"
        ) from error
    return _template("page.html.j2").render(
        heading=f"{notebook.title}: scale {notebook.scale}", name=notebook.name, scale=notebook.scale, style=_kept("style.css"),
        body=Markup(as_html(text)),
    )  # fmt: skip


def as_html(markdown: str) -> str:
    """Markdown as HTML, raw HTML shown as text but for `FOLDS`; tables and code scroll by themselves, by the keyboard too."""
    count = itertools.count(1)

    def scrolling(match: re.Match[str]) -> str:
        return f'<div class="wide" role="region" aria-label="Table {next(count)}" tabindex="0"><table>'

    rendered = re.sub("<table>", scrolling, str(_markdown()(markdown)))
    return rendered.replace("</table>", "</table></div>").replace("<pre>", '<pre tabindex="0">')


def strip(ends: tuple[float, float | None, float | None]) -> Markup:
    """An interval in smallest effects as a small drawing, whose numbers stand beside it."""

    def x(value: float) -> str:
        return f"{WIDTH / 2 * (1 + math.asinh(max(-MOST, min(MOST, value))) / math.asinh(MOST)):.1f}"

    value, low, high = ends
    parts = [
        f'<rect class="band" x="{x(-1)}" y="0" width="{float(x(1)) - float(x(-1)):.1f}" height="{HEIGHT}"/>',
        f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="0" y2="{HEIGHT}"/>',
    ]
    if low is not None and high is not None:
        parts.append(f'<line class="ends" x1="{x(low)}" x2="{x(high)}" y1="{HEIGHT / 2:g}" y2="{HEIGHT / 2:g}" stroke-width="2"/>')
    parts.append(f'<circle class="middle" cx="{x(value)}" cy="{HEIGHT / 2:g}" r="3"/>')
    return Markup(
        f'<svg class="strip" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>'
    )


class _Renderer(mistune.HTMLRenderer):
    def block_html(self, html: str) -> str:
        return _folded(html) + "\n"

    def inline_html(self, html: str) -> str:
        return _folded(html)


def _folded(text: str) -> str:
    kept, at = [], 0
    for match in FOLDS.finditer(text):
        kept += [html.escape(text[at : match.start()]), "" if match[0].startswith("<!--") else match[0]]
        at = match.end()
    return "".join([*kept, html.escape(text[at:])])


@functools.cache
def _markdown() -> mistune.Markdown:
    return mistune.Markdown(_Renderer(escape=True), plugins=[mistune.plugins.import_plugin("table")])


@functools.cache
def _template(name: str) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(HERE)
    return jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    ).get_template(name)


def _kept(name: str) -> Markup:
    """A file of ours, put into the page as it is."""
    return Markup((HERE / name).read_text(encoding="utf-8").rstrip())
