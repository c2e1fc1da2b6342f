"""The command `reprolib`: run notebooks, judge claims, train networks, see to data, explain a figure.

Nothing heavy is imported before a command needs it, so that `--help` and a mistyped option answer at once.
"""

from __future__ import annotations

import argparse
import atexit
import functools
import math
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from reprolib.errors import BadInput, MissingData, ReprolibError, StorageError, VerdictsDiffer, nearest

if TYPE_CHECKING:
    from reprolib.run.runner import RunResult

EXAMPLES = {
    "run": """\
  reprolib run                                        every finding at scale laptop, several at a time
  reprolib run invertibility --scale smoke            one finding, in seconds; not evidence
  reprolib run invertibility -p tau 0.2 -p seeds 3    turned knobs, in a folder of their own
  reprolib run --from-nothing                         train everything again elsewhere, and compare the verdicts""",
    "report": """\
  reprolib report                                     figures/<scale>/index.html, to open in a browser; README brought in step
  reprolib report --rerun --scale laptop              the same of your own run""",
    "claims": """\
  reprolib claims --scale cifar                       the committed verdicts and what else does it
  reprolib claims --why                               every verdict, with its reason, controls and parts
  reprolib claims --audit --strict                    recompute every verdict from the committed rows""",
    "train": """\
  reprolib train --scale cifar --list                 which networks exist, which are missing
  reprolib train --scale cifar --only 'w8-*'          some of the missing ones; interrupt it and call it again as you like
  reprolib train --scale cifar --only 'loo-lenet-*'   some of those without a class, which come last
  reprolib train --scale cifar gpu --minutes 8        as far as 8 minutes go; the next call goes on""",
    "calibrate": """\
  reprolib calibrate --check                          are shape and texture equally easy to learn, at equal margins""",
    "data": """\
  reprolib data status                                what is there, what it is for, and how to get what is not
  reprolib data fetch textures                        download the originals, and make the copies that are used
  reprolib data fetch textures --from dtd.tar.gz      of the archive, where one has it""",
    "explain": """\
  reprolib explain figures/laptop/invertibility/inversions.png""",
}

EPILOG = """\
`reprolib COMMAND --help` has examples.

exit codes:
  0  done                                    5  a file could not be written
  1  a training failed, or the unforeseen    6  a notebook cell failed
  2  a value given is not allowed            7  a notebook ran past its time limit
  3  data, network or results are missing    8  a notebook's kernel died
  4  a file is damaged or of another kind    9  verdicts differ, an audit or the calibration failed
  130  interrupted (Ctrl-C)

environment: REPROLIB_DATA names a folder with data sets, REPROLIB_ZOO one for networks; REPROLIB_PRECISION=fp32 or bf16 trains
in it, whatever the processor multiplies in; REPROLIB_DEBUG=1 shows tracebacks."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are BadInput, like every other value that is not allowed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Raise BadInput with one sentence that names the cure."""
        if "-p" in message and "expected 2 arguments" in message:
            message = "-p takes a name and a value, as in `-p tau 0.2`"
        if choice := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            message += nearest(choice[1], re.findall(r"'(.*?)'", choice[2]))
        raise BadInput(f"{message} (see `{self.prog} --help`)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in `arguments` (default: the command line); return its exit code."""
    try:
        given = parser().parse_args(arguments)
        _home()
        code: int | None = given.command(given)
        sys.stdout.flush()
        return code or 0
    except ReprolibError as error:
        if os.environ.get("REPROLIB_DEBUG"):
            raise
        print(f"reprolib: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("reprolib"):
            raise
        print(
            f"reprolib: {sys.executable} lacks {error.name}: install it, or name a Python that has it (make ... PYTHON=...)",
            file=sys.stderr,
        )
        return MissingData.exit_code
    except KeyboardInterrupt:
        print("reprolib: interrupted; the same command continues, since finished work is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) is gone: say nothing more, also not while Python closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # of a folder that others write to: the temporary one, a library's own
        from reprolib import store

        if error.errno not in store.CURES:
            raise
        print(f"reprolib: cannot write {error.filename}: {store.cure(error)}", file=sys.stderr)
        return StorageError.exit_code


def _home() -> None:
    """Set HOME to a temporary folder where there is none (unset, and the user unknown, as in containers): Jupyter cannot do without."""
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)


def parser() -> Parser:
    """The whole command line."""
    top = Parser(
        prog="reprolib",
        description="Five papers on adversarial robustness and representations, measured claim by claim.",
        epilog=EPILOG,
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, function: Callable[[argparse.Namespace], int | None], text: str, scale: str | None = "laptop") -> Parser:
        examples = f"examples:\n{EXAMPLES[name]}\n\n`reprolib --help` lists exit codes."
        made: Parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=examples)
        made.set_defaults(command=function)
        if scale:
            made.add_argument(
                "--scale", default=scale, help="preset of data, networks and budgets: smoke, laptop, cifar, gpu (default: %(default)s)"
            )
        return made

    run = command("run", run_findings, "run notebooks headless into figures/rerun/, and compare with the committed evidence")
    run.add_argument("findings", nargs="*", metavar="FINDING", help="which findings (default: all)")
    run.add_argument(
        "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="change a parameter; repeatable"
    )
    run.add_argument("--jobs", type=int, help="notebooks at a time (default: the cores)")
    run.add_argument("--device", help="auto, cpu or cuda (default: the notebook's, auto)")
    run.add_argument("--timeout", type=float, metavar="MINUTES", help="wall-clock limit of each notebook (default: none)")
    run.add_argument("--write", action="store_true", help="write over the committed evidence in figures/<scale>/; needs a clean tree")
    run.add_argument("--strict", action="store_true", help="fail where an answer is not the committed one")
    run.add_argument("--from-rows", action="store_true", help="draw and judge from the committed rows, in seconds; measure nothing")
    run.add_argument("--from-nothing", action="store_true", help="train and measure again in data/from-nothing/, then compare verdicts")

    report = command(
        "report", write_report, "write what was found as pages: a gallery for a browser, and the generated parts of README", scale=None
    )
    report.add_argument("--scale", nargs="+", metavar="SCALE", help="pages of these scales (default: all that are measured)")
    report.add_argument("--rerun", action="store_true", help="of what your own runs drew, in figures/rerun/, and README stays as it is")

    claims = command("claims", show_claims, "show the verdicts of a scale; with --audit and --strict, check them")
    claims.add_argument("--audit", action="store_true", help="recompute every estimate and verdict from the rows; fail where they differ")
    claims.add_argument("--strict", action="store_true", help="fail when a required claim was not run or an answer is another one")
    claims.add_argument("--why", action="store_true", help="below each claim its reason, checks, controls and parts")

    train = command("train", train_networks, "train what is missing of a scale; an interrupted training continues", scale=None)
    train.add_argument(
        "--scale", nargs="+", default=["laptop"], metavar="SCALE", help="one or more, in the order of work: smoke, laptop, cifar, gpu"
    )
    train.add_argument("--list", action="store_true", help="only show what is there and what is missing")
    train.add_argument("--minutes", type=float, help="begin no epoch that would end later (default: until all is there)")
    train.add_argument("--folder", type=Path, metavar="ZOO", help="where trained networks are kept (default: $REPROLIB_ZOO, or data/zoo)")
    train.add_argument("--jobs", type=int, help="networks at a time, one thread each (default: the cores, 1 on a GPU)")
    train.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    train.add_argument("--only", action="append", default=[], metavar="PATTERN", help="networks by name, such as 'w8-*-s0'; repeatable")

    calibrate = command(
        "calibrate", calibrate_cues, "measure whether both cues of the procedural images are equally easy to learn", scale=None
    )
    calibrate.add_argument("--check", action="store_true", help="write nothing: measure whether the committed calibration holds")
    calibrate.add_argument("--beside", action="store_true", help="other architectures and margins too: 15 minutes")

    data = command("data", see_to_data, "show which data sets are there, or fetch them from those who publish them", scale=None)
    data.add_argument("action", nargs="?", choices=("status", "fetch"), default="status")
    data.add_argument("name", nargs="?", help="one data set, or all")
    data.add_argument(
        "--from", dest="archive", type=Path, metavar="ARCHIVE", help="the published archive of that one, as downloaded by hand"
    )

    explain = command("explain", explain_figure, "say how a figure file was made, and the command that makes it again", scale=None)
    explain.add_argument("figure", type=Path, help="a png or pdf written by a run")
    return top


def run_findings(given: argparse.Namespace) -> int:
    """`reprolib run`."""
    from reprolib.run import runner

    named: dict[str, Any] = {}
    for name, value in given.parameter:
        if name in ("scale", "device"):
            raise BadInput(f"-p {name} {value} is not allowed: use --{name} {value}")
        if name in named:
            raise BadInput(f"-p {name} is given twice ({named[name]} and {value}): give it once")
        named[name] = value
    limit_s = None if given.timeout is None else 60 * given.timeout
    results = runner.run(
        given.findings,
        given.scale,
        named,
        given.jobs,
        given.device,
        given.from_nothing,
        limit_s,
        report=functools.partial(print, flush=True),
        write=given.write,
        from_rows=given.from_rows,
    )
    codes = [_conclude(result, given.strict or given.from_nothing) for result in results]
    if not (given.from_nothing or named):
        _show_gallery(results)
    return next((code for code in codes if code), 0)


def _show_gallery(results: Sequence[RunResult]) -> None:
    """Pages to look at, of the folders that runs drew into; what cannot be written of them fails no run."""
    from reprolib import store
    from reprolib.report import gallery

    for base in {result.folder.parents[1]: None for result in results if not result.exit_code}:
        try:
            for page in gallery.write(base):  # pages of other scales too: they show the scales side by side
                if page.parent.name in {result.scale for result in results}:
                    print(f"gallery: {store.shown(page)}")
        except ReprolibError as error:
            print(f"reprolib: no gallery: {error}", file=sys.stderr)


def write_report(given: argparse.Namespace) -> None:
    """`reprolib report`."""
    from reprolib import store
    from reprolib.report import gallery, readme

    base = store.root() / "figures" / ("rerun" if given.rerun else "")
    for page in gallery.write(base, given.scale):
        print(f"gallery: {store.shown(page)}")
    for page in () if given.rerun else readme.write(store.root()):
        print(f"in step: {store.shown(page)}")


def _conclude(result: RunResult, strict: bool) -> int:
    from reprolib import store
    from reprolib.judging.audit import changed_answers, comparison_lines, read_results
    from reprolib.run import summary

    print(f"\n{result.finding} at scale {result.scale}: {result.status} after {result.seconds / 60:.1f} min")
    if result.exit_code:
        where = f" in cell {result.cell} ({result.source.strip().splitlines()[0]})" if result.cell and result.source.strip() else ""
        about = f"{result.error}: {result.message}" if result.status == "failed" else result.message
        print(f"reprolib: {result.finding}: {result.status}{where}: {about or 'stopped before its end'}", file=sys.stderr)
        if os.environ.get("REPROLIB_DEBUG") and result.traceback:
            print(result.traceback, file=sys.stderr)
        print(f"  next: {result.next_step}", file=sys.stderr)
        return result.exit_code
    results = read_results(result.folder)
    print(summary.headline(results, store.shown(result.folder / "README.md")))
    print("\n".join(f"  {line}" for line in summary.verdict_lines(results)))
    for figure in results.get("figures", [])[:1]:
        print(f"  look first at {store.shown(result.folder / figure['files'][0])}")
    committed = store.root() / "figures" / results["scale"] / results["finding"]
    if result.folder == committed or result.folder.parent.name == "custom" or not (committed / "results.json").is_file():
        return 0
    before = read_results(committed)
    print("\n".join(comparison_lines(before, results, store.shown(committed))))
    return VerdictsDiffer.exit_code if strict and changed_answers(before, results) else 0


def show_claims(given: argparse.Namespace) -> None:
    """`reprolib claims`."""
    from reprolib import registry, scales, store
    from reprolib.judging import audit as checks
    from reprolib.run import summary

    scales.scale(given.scale)
    faults: list[str] = []
    folders = {name: store.root() / "figures" / given.scale / name for name in registry.notebooks()}
    folders = {name: folder for name, folder in folders.items() if name in registry.findings() or folder.exists()}
    for finding, folder in folders.items():
        if not folder.exists() and any(other.exists() for other in folders.values()):
            print(f"{finding} at scale {given.scale}: not measured yet")
            faults += [f"{finding} is not measured at scale {given.scale}"] if given.strict else []
            continue
        results = checks.read_results(folder)
        print(summary.headline(results, store.shown(folder / "README.md")))
        print("\n".join(f"  {line}" for line in summary.verdict_lines(results, given.why)))
        found = {"audit": checks.audit(folder)} if given.audit else {}
        if given.strict:
            committed = checks.results_in_git(folder)
            if committed is None:
                print("  strict: no committed results to hold the verdicts against")
            found["strict"] = checks.strict(folder, committed)
        for name, lines in found.items():
            print(f"  {name}: {'FAILED' if lines else 'passed'}")
            print("".join(f"    {line}\n" for line in lines), end="")
            faults += lines
    if faults:
        raise VerdictsDiffer(f"{len(faults)} fault{'s' if len(faults) > 1 else ''} found, listed above; the first: {faults[0]}")


def train_networks(given: argparse.Namespace) -> None:
    """`reprolib train`."""
    from reprolib import parameters, scales
    from reprolib.run import runner

    for scale in given.scale:
        scales.scale(scale)
    if given.jobs is not None and given.jobs < 1:
        raise BadInput(f"--jobs {given.jobs} is not allowed: at least 1 network at a time")
    if given.minutes is not None and not 0 < given.minutes < math.inf:
        raise BadInput(f"--minutes {given.minutes:g} is not allowed: a budget of more than 0 minutes, such as 8")
    device = parameters.resolve_device(given.device)
    from reprolib.training import choice, leave_one_out, pool, zoo
    from reprolib.training.points import PREFIX

    ends = math.inf if given.minutes is None else time.time() + 60 * given.minutes
    jobs = given.jobs or (1 if device == "cuda" else runner.cores())
    shipped, failure = zoo.zoo_folder(), None
    if given.folder:
        os.environ["REPROLIB_ZOO"] = str(given.folder.resolve())
    own = [pattern for pattern in given.only if pattern.startswith(PREFIX)]
    tables: list[tuple[Any, Any, Any, list[str]]] = [
        (pool, pool.train_pool, pool.list_pool, [pattern for pattern in given.only if pattern not in own]),
        (leave_one_out, leave_one_out.train_points, leave_one_out.list_points, own),
    ]
    tables = [one for one in tables if one[-1] or not given.only]
    for scale in () if given.list else given.scale:
        for table, work_off, _, only in tables:
            try:
                table.bring_in(scale, shipped)
                work_off(scale, jobs, only, device, functools.partial(print, flush=True), ends)
            except ReprolibError as error:  # of one table; the others go on
                failure = failure or error
    for scale in given.scale:
        for table, _, listed, only in tables:
            if len(rows := listed(scale, only)):
                print(
                    f"{rows.to_string(index=False, na_rep='', float_format='{:.3f}'.format)}\n{scale}: {table.totals(scale, only, jobs, device)}"
                )
        print("".join(f"{line}\n" for line in choice.lines(scale)), end="")
    if failure:
        raise failure
    if given.minutes is not None:
        print("the same command goes on with what is missing")


def calibrate_cues(given: argparse.Namespace) -> None:
    """`reprolib calibrate`."""
    import torch

    from reprolib import store
    from reprolib.data import shapetexture
    from reprolib.training import calibration

    torch.set_num_threads(1)
    report = functools.partial(print, flush=True)
    if given.check:
        if not shapetexture.calibration():
            raise MissingData(f"{store.shown(shapetexture.CALIBRATION_FILE)} is not there: write it with `reprolib calibrate`")
        faults = calibration.check(report)
        if faults:
            raise VerdictsDiffer(f"the calibration does not hold: {'; '.join(faults)}")
        print("the calibration holds")
        return
    calibration.calibrate(report, given.beside)
    print(
        f"written: {store.shown(shapetexture.CALIBRATION_FILE)}; networks trained on another calibration have other keys and are trained again"
    )


def see_to_data(given: argparse.Namespace) -> None:
    """`reprolib data`."""
    from reprolib.data import registry

    registry.command(given.action, given.name, given.archive)


def explain_figure(given: argparse.Namespace) -> None:
    """`reprolib explain`."""
    from reprolib.run import explain

    print("\n".join(explain.lines(given.figure)))
