"""The files around the code agree with each other: pins, ranges, environments, the Makefile, notebooks and their twins."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import jupytext
import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import reprolib
from reprolib import parameters, registry

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    canonicalize_name(pin.name): pin
    for line in (ROOT / "requirements.txt").read_text().splitlines()
    if line and not line.startswith("#")
    for pin in [Requirement(line)]
}


def version(name: str) -> str:
    """The pinned version of a package."""
    (specifier,) = PINS[canonicalize_name(name)].specifier
    assert specifier.operator == "=="
    return specifier.version


def make(*arguments: str, folder: Path = ROOT) -> str:
    """What make would do; these tests may run under make themselves, whose settings must not reach this one."""
    inherited = (
        "MAKEFLAGS",
        "MAKELEVEL",
        "MFLAGS",
        "SCALE",
        "FINDING",
        "JOBS",
        "FROM_NOTHING",
        "TORCH_INDEX",
        "PYTHON",
        "VENV",
        "MINUTES",
        "STAGE",
    )
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files make looks at, as on a new machine: no environment yet."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_every_dependency_is_pinned_within_its_range() -> None:
    wanted = [Requirement(line) for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]]
    assert len(wanted) > 15
    for requirement in wanted:
        assert requirement.specifier.contains(version(requirement.name)), requirement


def test_every_pin_is_exact_comes_from_no_particular_index_and_installs_on_every_platform() -> None:
    text = (ROOT / "requirements.txt").read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-", text, re.MULTILINE)
    assert all(version(name) for name in PINS)
    assert not [name for name in PINS if name.startswith(("nvidia-", "cuda-", "triton"))]
    assert (version("torch"), version("torchvision")) == ("2.15.0", "0.29.2")


def test_conda_installs_the_same_pins_for_a_python_the_project_allows() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip == ["-r requirements.txt"]
    (python,) = (entry.partition("=")[2] for entry in conda if entry.startswith("python="))
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(f"{python}.0")


def test_the_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == reprolib.__version__ == str(citation["version"])
    assert f"## [{reprolib.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_citation_names_the_five_papers() -> None:
    references = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    ids = [identifier["value"] for reference in references for identifier in reference["identifiers"]]
    assert ids == [f"arXiv:{number}" for number in ("1906.00945", "2006.09373", "2206.09868", "1902.01889", "1906.06627")]


def test_make_figures_on_a_new_machine_builds_the_environment_first_and_stamps_it_last(clone: Path) -> None:
    lines = [line for line in make("-n", "figures", folder=clone).splitlines() if not line.startswith(("  ", "python3 -c"))]
    assert lines[0] == "rm -f .venv/.installed"
    assert lines[1] == "python3 -m venv .venv"
    assert lines[2].endswith("pip install --disable-pip-version-check -r requirements.txt")
    assert lines[3].endswith("--no-deps --no-build-isolation -e .")
    assert lines[4] == "touch .venv/.installed"
    assert lines[5].split() == [".venv/bin/reprolib", "run", "all", "--scale", "laptop"]
    assert lines[6:] == []


def test_make_figures_draws_cifar_too_where_its_rows_are_committed(clone: Path) -> None:
    (clone / "figures" / "cifar").mkdir(parents=True)
    assert make("-n", "figures", folder=clone).splitlines()[-1] == ".venv/bin/reprolib run all --scale cifar --from-rows"
    for other in ("SCALE=smoke", "WRITE=1", "FROM_NOTHING=1"):
        assert "--from-rows" not in make("-n", "figures", other, folder=clone)
    assert "--from-rows" not in make("-n", "figures", "FINDING=invertibility", folder=clone)  # it has no rows there yet
    (clone / "figures" / "cifar" / "invertibility").mkdir()
    last = make("-n", "figures", "FINDING=invertibility", folder=clone).splitlines()[-1]
    assert last == ".venv/bin/reprolib run invertibility --scale cifar --from-rows"


@pytest.mark.parametrize("changed", ["requirements.txt", "pyproject.toml"])
def test_the_environment_is_taken_up_again_only_when_its_files_changed(clone: Path, changed: str) -> None:
    stamp = clone / ".venv" / ".installed"
    stamp.parent.mkdir()
    stamp.touch()
    for name in ("requirements.txt", "pyproject.toml"):
        os.utime(clone / name, (1e9, 1e9))
    assert make("-n", "test", folder=clone) == "OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n logical --dist loadfile\n"
    later = stamp.stat().st_mtime + 10
    os.utime(clone / changed, (later, later))
    assert "pip install" in make("-n", "test", folder=clone)


def test_make_variables_reach_the_command(clone: Path) -> None:
    last = make("-n", "figures", "SCALE=cifar", "FINDING=invertibility", "JOBS=2", "FROM_NOTHING=1", folder=clone).splitlines()[-1]
    assert last == ".venv/bin/reprolib run invertibility --scale cifar --jobs 2 --from-nothing"
    assert "--from-nothing" not in make("-n", "figures", "FROM_NOTHING=0", folder=clone)
    assert make("-n", "figures", "WRITE=1", folder=clone).splitlines()[-1] == ".venv/bin/reprolib run all --scale laptop --write"
    assert "python3.12 -m venv elsewhere" in make("-n", "test", "PYTHON=python3.12", "VENV=elsewhere", folder=clone)


HOSTILE = ("a b/;touch run", "$(shell touch run)", "`touch run`", "it's; touch run #", '"$(touch run)"', "$$(touch run)", "a\ntouch run")


@pytest.mark.parametrize("value", HOSTILE)
def test_whatever_stands_in_a_variable_is_one_word_and_runs_nothing(clone: Path, value: str) -> None:
    """A command that prints its arguments stands in for `reprolib` and for Python."""
    (clone / ".venv" / "bin").mkdir(parents=True)
    told = clone / ".venv" / "bin" / "reprolib"
    told.write_text('#!/bin/bash\nprintf "<%s>" "$@"\n')
    told.chmod(0o755)
    (clone / ".venv" / ".installed").touch()
    said = make("-s", "figures", f"SCALE={value}", f"JOBS={value}", f"PYTHON={value}", f"TORCH_INDEX={value}", folder=clone)
    assert said == "<run><all><--scale><{0}><--jobs><{0}>".format(value.replace("\n", ""))
    said = make("-s", "gpu-stage", f"STAGE={value}", f"MINUTES={value}", f"PYTHON={told}", folder=clone)
    assert "<--minutes><{0}><--folder><{0}/zoo>".format(value.replace("\n", "")) in said
    assert "<touch>" in make("-s", "figures", "FINDING=x; touch run", folder=clone)
    assert not list(clone.rglob("run*"))


def test_a_folder_of_the_environment_that_make_could_not_name_is_refused(clone: Path) -> None:
    for value in ("a b", "a;touch run", "$(shell touch run)"):
        with pytest.raises(subprocess.CalledProcessError) as caught:
            make("figures", f"VENV={value}", folder=clone)
        assert f"VENV={value} is not allowed: a folder name without spaces" in caught.value.stderr
    assert not (clone / "run").exists()


def test_a_torch_index_serves_torch_and_torchvision_alone(clone: Path) -> None:
    index = "https://index.example.org/cpu"
    (line,) = (line for line in make("-n", "test", f"TORCH_INDEX={index}", folder=clone).splitlines() if index in line)
    assert line.endswith(f"--no-deps --index-url {index} torch==2.15.0 torchvision==0.29.2")
    assert "--index-url" not in make("-n", "test", folder=clone)


def test_make_alone_lists_every_target() -> None:
    listed = make()
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"figures", "test", "smoke", "lab", "check", "clean", "help"} <= set(targets)
    assert all(re.search(rf"^{target} ", listed, re.MULTILINE) for target in targets)


def test_continuous_integration_runs_the_readmes_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    subprocess.run(["bash", "-n", ".ci/run"], cwd=ROOT, check=True)
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    assert {"make test", "make smoke"} <= set(script.splitlines())


def test_every_finding_has_a_notebook_and_every_notebook_a_twin() -> None:
    names = {path.stem for path in NOTEBOOKS}
    assert set(registry.notebooks()) == names
    assert {path.stem for path in (ROOT / "notebooks").glob("*.py")} == names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_and_its_twin_have_the_same_cells(path: Path) -> None:
    notebook, twin = nbformat.read(path, as_version=4), jupytext.read(path.with_suffix(".py"))

    def cells(of: nbformat.NotebookNode) -> list[tuple[str, str, list[str]]]:
        return [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in of.cells]

    assert cells(notebook) == cells(twin), "bring them in step with `make format`"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_stripped_and_runs_right_after_a_clone(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert not {"widgets", "papermill"} & notebook.metadata.keys()
    for cell in notebook.cells:
        assert cell.metadata.keys() <= {"tags"}
        assert "injected-parameters" not in cell.metadata.get("tags", [])
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
            assert not cell.source.lstrip().startswith(("%", "!"))


@pytest.mark.parametrize("finding", registry.notebooks())
def test_papermill_finds_every_parameter_of_a_notebook(finding: str) -> None:
    from papermill.inspection import inspect_notebook

    found = inspect_notebook(str(ROOT / "notebooks" / f"{finding}.ipynb"))
    assert list(found) == list(parameters.of(finding))
    assert all(entry["inferred_type_name"] in ("str", "int", "float") for entry in found.values())


def test_no_file_names_a_machine() -> None:
    # Spelled in pieces, so that this line does not find itself.
    places = re.compile("|".join(("/" + "home/", "/" + "root/", "/" + "Users/", "C:" + r"\\Users")))
    suffixes = (".py", ".toml", ".md", ".yml", ".cff", ".ipynb", ".json", ".txt")
    looked_at = [
        p
        for folder in ("reprolib", "notebooks", "tests", "figures/laptop", "figures/cifar")
        for p in (ROOT / folder).rglob("*")
        if p.suffix in suffixes
    ]
    looked_at += [p for p in ROOT.iterdir() if p.suffix in suffixes or p.name == "Makefile"]
    assert len(looked_at) > 30
    assert [str(path) for path in looked_at if places.search(path.read_text(encoding="utf-8"))] == []


def test_rooms_import_only_from_rooms_below_and_general_ones_know_no_finding() -> None:
    floors = [
        "errors",
        "boundary",
        "store",
        "code_hash",
        "provenance",
        "registry",
        "scales",
        "measures",
        "data",
        "models",
        "perturb",
        "training",
        "judging",
        "figures",
        "display",
        "parameters",
        "front_end",
        "roles",
        "cue_conflicts",
        "units",
        "entangled",
        "left_out",
        "front_door",
        "study",
        "findings",
        "run",
        "report",
        "cli",
        "__main__",
        "__init__",
    ]
    package, wrong = ROOT / "reprolib", []
    for path in package.rglob("*.py"):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            if modules == ["reprolib"]:
                modules = [f"reprolib.{alias.name}" for alias in node.names]
            for module in (m for m in modules if m.startswith("reprolib.")):
                there = module.split(".")[1]
                if there in floors and floors.index(there) > floors.index(room):
                    wrong.append(f"{path.relative_to(package)} imports {module}")
                others = [name for name in registry.notebooks() if f"reprolib.findings.{name}" in module]
                wrong += [f"{path.relative_to(package)} knows {name}" for name in others if name not in path.parts]
    assert wrong == ["store.py imports reprolib.code_hash"]  # when a measurement is kept, and only then
