"""The command line: what it prints, in which words it refuses, and the exit code of each ending."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reprolib import errors
from reprolib.cli import main, parser
from reprolib.judging import audit
from reprolib.run import runner, summary
from reprolib.run.runner import RunResult


def results(**verdicts: str) -> dict:
    """A results.json with these verdicts (INV_1 stands for INV-1)."""
    claims = [
        {
            "id": name.replace("_", "-"), "verdict": verdict, "specificity": "specific" if verdict == "supported" else "", "required": True,
            "estimate": -0.08, "low": -0.12, "high": -0.04, "networks": {"standard": {"a": 0.9, "b": 0.8}, "robust": {"c": 0.8, "d": 0.7}},
            "controls": [{"name": "gauss", "share": 0.1, "low": -0.2, "high": 0.4, "state": "ruled out"}], "reason": "because",
            "parts": [{"name": "ssim", "estimate": None, "low": None, "high": None, "n": 0, "state": "not measured"}],
        }
        for name, verdict in verdicts.items()
    ]  # fmt: skip
    return {"finding": "invertibility", "scale": "laptop", "measured": "yes", "claims_sha256": "0" * 64, "claims": claims}


def write(folder: Path, content: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, repository: Path) -> Callable[..., list]:
    """Make `reprolib run` end in a given way without running anything; returns the list of the arguments it was called with."""

    def install(**fields: object) -> list:
        calls: list = []
        folder = fields.pop("folder", repository / "figures" / "laptop" / "invertibility")
        result = RunResult(
            **{
                "finding": "invertibility",
                "scale": "laptop",
                "status": "completed",
                "exit_code": 0,
                "seconds": 90.0,
                "notebook": Path("n.ipynb"),
            }
            | fields,
            folder=folder,
        )

        def run(*arguments: object, **options: object) -> list[RunResult]:
            calls.append(arguments)
            return [result]

        monkeypatch.setattr(runner, "run", run)
        return calls

    return install


def test_help_answers_at_once_and_loads_nothing_heavy() -> None:
    code = "import sys, reprolib.cli; reprolib.cli.main(['--help'])"
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert time.monotonic() - began < 1
    code = "import sys, reprolib.cli; reprolib.cli.parser(); print([m for m in ('torch', 'pandas', 'matplotlib', 'papermill') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_help_lists_every_command_with_examples_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    for command in ("run", "claims", "train", "data", "explain"):
        assert re.search(rf"^ +{command} ", text, re.MULTILINE)
    codes = {error.exit_code for error in vars(errors).values() if isinstance(error, type) and issubclass(error, errors.ReprolibError)}
    listed = {int(code) for code in re.findall(r"(?:^| )(\d+)  \w", text.split("exit codes:")[1].split("environment:")[0], re.MULTILINE)}
    assert listed == codes | {0, 130}


def test_the_help_of_each_command_has_its_own_examples_and_they_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("run", "claims", "train", "calibrate", "data", "explain"):
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        epilog = capsys.readouterr().out.split("examples:\n")[1]
        examples = [re.split(" {2,}", line.strip())[0] for line in epilog.splitlines() if line.startswith("  reprolib ")]
        assert examples
        for example in examples:
            _, name, *arguments = shlex.split(example)
            assert name == command
            assert callable(parser().parse_args([name, *arguments]).command)


def test_the_module_is_the_command() -> None:
    said = subprocess.run([sys.executable, "-m", "reprolib", "explain", "nothing.png"], capture_output=True, text=True, check=False)
    assert said.returncode == 3
    assert said.stderr.startswith("reprolib: nothing.png is not there")
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["rum"], "invalid choice: 'rum'.*did you mean 'run'"),
        (["run", "-p", "tau"], "-p takes a name and a value, as in `-p tau 0.2`"),
        (["run", "-p"], "-p takes a name and a value"),
        (["run", "--jobs", "many"], "argument --jobs: invalid int value: 'many'"),
        (["run", "--jobs", "0"], "jobs=0 is not allowed: at least 1"),
        (["run", "-p", "scale", "smoke"], "-p scale smoke is not allowed: use --scale smoke"),
        (["run", "-p", "tau", "0.1", "-p", "tau", "0.2"], r"-p tau is given twice \(0.1 and 0.2\)"),
        (["run", "-p", "seed", "2"], "parameter 'seed' is unknown in invertibility.*did you mean 'seeds'"),
        (["run", "-p", "seeds", "-3"], "seeds='-3' is not allowed"),
        (["run", "invertable"], "finding 'invertable' is unknown; allowed: invertibility, shape_bias, "),
        (["run", "--scale", "laptoop"], "scale='laptoop' is not allowed.*did you mean 'laptop'"),
        (["run", "--device", "tpu"], "device='tpu' is not allowed; allowed: auto, cpu, cuda"),
        (["claims", "--scale", "smole"], "scale='smole' is unknown.*did you mean 'smoke'"),
        (["train", "--scale", "smoke", "--jobs", "-1"], "--jobs -1 is not allowed"),
        (["train", "--scale", "smoke", "--minutes", "0"], "--minutes 0 is not allowed: a budget of more than 0 minutes"),
        (["train", "--scale", "smoke", "--minutes", "nan"], "--minutes nan is not allowed"),
        (["train", "--scale", "smoke", "--list", "--device", "gpu"], "device='gpu' is unknown"),
        (["data", "status", "cifar"], "data set 'cifar' is unknown.*did you mean 'cifar10'"),
        (["data", "remove"], "invalid choice: 'remove'"),
    ],
)
def test_a_bad_value_is_one_sentence_and_exit_code_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert re.match(f"reprolib: .*{message}", said.err)
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_a_gpu_that_is_not_there_is_a_bad_value(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["run", "--device", "cuda"]) == 2
    assert "this machine has no usable GPU" in capsys.readouterr().err


def test_a_run_ends_with_its_folder_its_verdicts_and_whether_it_measured(
    ended: Callable[..., list], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        repository / "figures" / "laptop" / "invertibility",
        results(INV_1="supported", INV_10="inconclusive")
        | {
            "measured": "no (CIFAR-10 absent)",
            "figures": [{"name": "first", "files": ["first.png", "first.pdf"]}, {"name": "second", "files": []}],
        },
    )
    calls = ended()
    assert main(["run", "invertibility", "-p", "tau", "1/4", "--jobs", "2", "--timeout", "5", "--device", "cpu"]) == 0
    assert calls == [(["invertibility"], "laptop", {"tau": "1/4"}, 2, "cpu", False, 300.0)]
    assert capsys.readouterr().out.splitlines()[1:] == [
        "invertibility at scale laptop: completed after 1.5 min",
        "invertibility at scale laptop: holds 1 (1 of them only with adversarial training), open 1"
        " · page: figures/laptop/invertibility/README.md",
        "  INV-1   supported     -0.08 [-0.12, -0.04]      2 + 2 networks  specific",
        "  INV-10  inconclusive  -0.08 [-0.12, -0.04]      2 + 2 networks",
        "  measured: no (CIFAR-10 absent)",
        "  look first at figures/laptop/invertibility/first.png",
    ]


def test_a_failed_run_says_what_failed_where_and_the_next_step(ended: Callable[..., list], capsys: pytest.CaptureFixture[str]) -> None:
    fields = {
        "status": "failed",
        "exit_code": 6,
        "cell": 5,
        "source": "x / 0\ny",
        "error": "ZeroDivisionError",
        "message": "division by zero",
    }
    ended(**fields, traceback="the whole trace")
    assert main(["run"]) == 6
    assert capsys.readouterr().err.splitlines() == [
        "reprolib: invertibility: failed in cell 5 (x / 0): ZeroDivisionError: division by zero",
        "  next: open n.ipynb at In [5], or run notebooks/invertibility.ipynb in JupyterLab (`make lab`)",
    ]


def test_from_nothing_compares_verdicts_and_fails_when_they_differ(
    ended: Callable[..., list], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = repository / "data" / "from-nothing" / "laptop" / "figures" / "rerun" / "laptop" / "invertibility"
    ended(folder=write(base, results(INV_1="supported", INV_2="negligible")))
    assert main(["run", "--from-nothing"]) == 0
    assert "compared with" not in capsys.readouterr().out  # nothing is committed
    write(repository / "figures" / "laptop" / "invertibility", results(INV_1="supported", INV_2="negligible"))
    assert main(["run", "--from-nothing"]) == 0
    agrees = "compared with figures/laptop/invertibility: every answer agrees, and every estimate to a tenth of its smallest effect\n"
    assert capsys.readouterr().out.endswith(agrees)
    write(repository / "figures" / "laptop" / "invertibility", results(INV_1="supported", INV_2="supported"))
    assert main(["run", "--from-nothing"]) == 9
    assert capsys.readouterr().out.endswith("1 answers differ, 0 estimates moved\n  INV-2: negligible, committed as supported, specific\n")
    assert main(["run"]) == 0
    assert main(["run", "--strict"]) == 9


def test_a_claim_that_came_or_went_is_a_difference() -> None:
    found = audit.changed_answers(results(INV_1="supported"), results(INV_2="negligible"))
    assert found == ["INV-1: absent, committed as supported, specific", "INV-2: negligible, committed as absent"]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One finding, so that a folder of results need not be made for each."""
    monkeypatch.setattr("reprolib.registry.findings", lambda: ("invertibility",))


@pytest.mark.usefixtures("alone")
def test_claims_are_shown_and_checked(repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write(repository / "figures" / "laptop" / "invertibility", results(INV_1="supported"))
    assert main(["claims"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "invertibility at scale laptop: holds 1 (1 of them only with adversarial training) · page: figures/laptop/invertibility/README.md",
        "  INV-1  supported     -0.08 [-0.12, -0.04]      2 + 2 networks  specific",
        "  measured: yes",
    ]
    assert main(["claims", "--why"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines[2:5]] == ["because", "noise-trained 10 % [-20, 40] ruled out", "ssim: - not measured"]
    monkeypatch.setattr(audit, "audit", lambda given: [f"{given.name} INV-1: estimate 1 written, 2 from the rows"])
    assert main(["claims", "--audit"]) == 9
    said = capsys.readouterr()
    assert "  audit: FAILED\n    invertibility INV-1: estimate 1 written, 2 from the rows\n" in said.out
    assert said.err == "reprolib: 1 fault found, listed above; the first: invertibility INV-1: estimate 1 written, 2 from the rows\n"


def test_a_finding_that_a_scale_has_not_measured_is_named_and_no_strict_answer(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reprolib.registry.findings", lambda: ("invertibility", "entanglement"))
    assert main(["claims"]) == 3  # nothing is measured
    write(repository / "figures" / "laptop" / "invertibility", results(INV_1="supported"))
    capsys.readouterr()
    assert main(["claims"]) == 0
    assert capsys.readouterr().out.endswith("entanglement at scale laptop: not measured yet\n")
    assert main(["claims", "--strict"]) == 9
    assert capsys.readouterr().err.startswith("reprolib: 2 faults found")  # no sentence on the one, and no other finding


@pytest.mark.usefixtures("alone")
def test_strict_holds_verdicts_against_the_committed_ones_where_git_has_them(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(repository / "figures" / "laptop" / "invertibility", results(INV_1="supported"))
    assert main(["claims", "--strict"]) == 9
    assert "the sentence on what was found is missing or stale" in capsys.readouterr().out
    (folder / "seen.toml").write_text(f'[finding]\nclaims = "{audit.claims_hash(audit.read_results(folder))}"\ntext = "One holds."\n')
    assert main(["claims", "--strict"]) == 0
    assert "no committed results to hold the verdicts against" in capsys.readouterr().out
    for arguments in (
        ["init", "-q"],
        ["add", "--all"],
        ["-c", "user.name=Test", "-c", "user.email=test@example.org", "commit", "-q", "-m", "Results"],
    ):
        subprocess.run(["git", *arguments], check=True)
    assert main(["claims", "--strict"]) == 0
    write(folder, results(INV_1="contradicted"))
    assert main(["claims", "--strict"]) == 9
    assert "INV-1: contradicted, committed as supported, specific" in capsys.readouterr().out
    write(folder, results(INV_1="not run (no rows)"))
    assert main(["claims", "--strict"]) == 9


def test_a_folder_without_results_is_missing_data(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims"]) == 3
    assert re.match(r"reprolib: .*results\.json is not there", capsys.readouterr().err)


def test_train_lists_what_is_there_and_what_is_missing(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--scale", "smoke", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["network", "state", "clean", "adversarial", "minutes", "precision", "hardware", "check"]
    end = next(i for i, line in enumerate(lines) if line.startswith("smoke: "))
    assert [line.split()[1] for line in lines[1:end]] == ["missing"] * (end - 1)
    assert any(line.split()[:3] == ["tinycnn-std-s0", "missing", "~0.02"] for line in lines)
    assert re.fullmatch(
        r"smoke: 0 there, \d+ missing: about 1 min left, \d+ at a time \(by the estimates: none was trained here\)", lines[end]
    )
    assert lines[end + 1].split() == ["point", "state", "clean", "adversarial", "minutes", "check"]
    assert re.fullmatch(r"smoke: 0 of \d points without a class there, \d+ networks missing: about \d min left, \d+ at a time", lines[-1])
    assert main(["train", "--scale", "smoke", "--list", "--only", "*-std-s0", "--jobs", "1"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["network", "tinycnn-std-s0", "smoke:"]


def test_data_status_says_for_each_set_where_it_is_or_how_to_get_it(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("REPROLIB_DATA", raising=False)
    assert main(["data"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"looked for in {repository / 'data'}\n")
    assert re.search(r"^cifar10 +CIFAR-10, for scale cifar, gpu: .*missing: `reprolib data fetch cifar10`", text, re.MULTILINE)
    assert re.search(r"^textures .*missing: `reprolib data fetch textures`", text, re.MULTILINE)
    assert re.search(r"^shapetexture .*for scale laptop: .*there: generated", text, re.MULTILINE)
    assert main(["data", "fetch"]) == 2
    assert main(["data", "fetch", "all", "--from", "dtd.tar.gz"]) == 2
    assert main(["data", "status", "textuers"]) == 2
    assert "did you mean 'textures'" in capsys.readouterr().err
    assert main(["data", "fetch", "shapetexture"]) == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_ctrl_c_is_130_and_says_that_the_command_continues(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run", interrupt)
    assert main(["run"]) == 130
    assert capsys.readouterr().err == "reprolib: interrupted; the same command continues, since finished work is kept\n"


def test_a_traceback_is_shown_on_demand_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROLIB_DEBUG", "1")
    with pytest.raises(errors.MissingData):
        main(["explain", "nothing.png"])


def test_a_reader_that_closes_its_end_early_is_no_error() -> None:
    command = f"{sys.executable} -m reprolib data | true"
    assert subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stderr == ""


def test_a_line_a_claim_fits_the_terminal_and_says_what_holds_and_what_is_open() -> None:
    long = "inconclusive (check " + "converged, " * 8 + "overfitted)"
    found = results(INV_1="supported", INV_2=long, INV_3="negligible", INV_4="not run (not measured)")
    lines = summary.verdict_lines(found)
    assert max(map(len, lines)) == summary.WIDTH
    assert lines[1].startswith("INV-2  inconclusive  -0.08 [-0.12, -0.04]      2 + 2 networks  check converged, ")
    assert summary.headline(found).endswith("holds 1 (1 of them only with adversarial training), does not hold 1, open 1, not run 1")
