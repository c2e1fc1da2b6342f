from __future__ import annotations

from pathlib import Path

import pytest
import torch
from papermill.inspection import inspect_notebook

import reprolib
from reprolib import parameters, registry
from reprolib.errors import BadInput, MissingData

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def test_nothing_given_is_the_laptop_preset() -> None:
    settings = parameters.validate("invertibility", {})
    assert settings.scale.name == "laptop"
    assert settings["steps"] == registry.settings("invertibility")["presets"]["laptop"]["steps"]
    assert settings.overridden == {}
    assert settings.folder().parts[-4:] == ("figures", "rerun", "laptop", "invertibility")
    assert settings.committed().parts[-3:] == ("figures", "laptop", "invertibility")


def test_a_value_equal_to_the_preset_turns_nothing() -> None:
    steps = registry.settings("invertibility")["presets"]["smoke"]["steps"]
    assert parameters.validate("invertibility", {"scale": "smoke", "steps": steps, "pool": 0, "tau": 0}).overridden == {}


def test_a_turned_knob_writes_elsewhere_and_always_to_the_same_place() -> None:
    one = parameters.validate("invertibility", {"scale": "smoke", "steps": 40})
    assert one.overridden == {"steps": 40}
    assert one.folder().parts[-2] == "custom"
    assert one.folder() == parameters.validate("invertibility", {"steps": "40", "scale": "smoke", "device": "cpu"}).folder()
    assert one.folder() != parameters.validate("invertibility", {"scale": "smoke", "steps": 41}).folder()


def test_where_it_runs_changes_no_folder() -> None:
    settings = parameters.validate("invertibility", {"device": "cpu", "interactive": "off"})
    assert settings.folder() == parameters.validate("invertibility", {}).folder()


def test_the_words_that_yaml_takes_for_booleans_are_taken_for_what_they_say() -> None:
    read = [parameters.validate("invertibility", {"interactive": given}).interactive for given in (True, False, "on", "off")]
    assert read == ["on", "off", "on", "off"]
    with pytest.raises(BadInput, match=r"scale=False is not allowed: .*YAML reads on, off, yes and no as True and False: quote the word"):
        parameters.validate("invertibility", {"scale": False})


@pytest.mark.parametrize(("given", "read"), [("1/5", 0.2), ("0.2", 0.2), (0.2, 0.2), (1, 1.0)])
def test_fractions_and_numbers_as_text_are_read(given: object, read: float) -> None:
    assert parameters.validate("invertibility", {"tau": given})["tau"] == read


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scael": "smoke"}, r"parameter 'scael' is unknown in invertibility; allowed: scale, .*did you mean 'scale'"),
        ({"scale": "smok"}, r"scale='smok' is not allowed; allowed: smoke, laptop, cifar, gpu; did you mean 'smoke'"),
        ({"steps": "banana"}, r"steps='banana' is not allowed: it takes int \(10 to 10000, or 0 for the scale's preset\)"),
        ({"steps": 12.5}, r"steps=12.5 is not allowed: it takes int"),
        ({"steps": True}, r"steps=True is not allowed"),
        ({"steps": None}, r"steps=None is not allowed"),
        ({"steps": -3}, r"steps=-3 is not allowed; allowed: 10 to 10000"),
        ({"pool": 3}, r"pool=3 is not allowed; allowed: 0, 1, 2, 4, 8"),
        ({"tau": "nan"}, r"tau='nan' is not allowed"),
        ({"tau": float("inf")}, r"tau=inf is not allowed"),
        ({"tau": "1/0"}, r"tau='1/0' is not allowed"),
        ({"seeds": 99}, r"seeds=99 is not allowed; allowed: 1 to 10"),
        ({"seeds": "[0,1]"}, r"seeds='\[0,1\]' is not allowed"),
        ({"device": "tpu"}, r"device='tpu' is not allowed; allowed: auto, cpu, cuda"),
        ({"interactive": 1}, r"interactive=1 is not allowed"),
    ],
)
def test_bad_values_name_the_value_what_is_allowed_and_the_nearest(given: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parameters.validate("invertibility", given)


def test_a_readers_own_network_writes_elsewhere_and_turns_no_knob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "net.pth"
    file.touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for told in (str(file), "~/net.pth", "net.pth"):
        settings = parameters.validate("block_structure", {"checkpoint": told, "architecture": "pool"})
        assert settings.overridden == {"checkpoint": str(file), "architecture": "pool"}
    assert settings.values == parameters.validate("block_structure", {}).values
    assert settings.folder().parent.name == "custom"
    with pytest.raises(MissingData, match=r"^checkpoint='~/other.pth' is not there: .*other.pth is no file; correct the path"):
        parameters.validate("block_structure", {"checkpoint": "~/other.pth"})
    with pytest.raises(BadInput, match="give checkpoint too"):
        parameters.validate("block_structure", {"architecture": "w8"})
    with pytest.raises(BadInput, match=r"checkpoint=3 is not allowed: it takes str"):
        parameters.validate("block_structure", {"checkpoint": 3})


def test_an_unknown_finding_names_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"finding 'invertability' is unknown; allowed: .*did you mean 'invertibility'"):
        parameters.validate("invertability", {})


PARAMETERS_CELL = 'scale: str = "smoke"  # preset\nseeds: int = 0\nstpes: int = 40'


def test_names_are_read_where_parameters_are_and_a_readers_other_cells_are_left_alone() -> None:
    known = parameters.of("invertibility")
    injected = '# Parameters\nscale = "smoke"\nmode = 40\n'
    own = [
        "steps = 3\nx, lines, model = 1, [], None",
        "device = 'cpu'\nsteps = 3\nmodel = 0\nlosses = []",
        "%matplotlib inline\nsetps = 1",
        "x =",
    ]
    assert parameters.written([], known) == []
    assert parameters.written(["", "x = 1", injected, *own], known) == ["scale", "mode"]
    assert parameters.written([PARAMETERS_CELL, *own], known) == ["scale", "seeds", "stpes"]
    assert parameters.written([PARAMETERS_CELL, PARAMETERS_CELL.replace("stpes", "steps"), *own], known) == ["scale", "seeds", "steps"]


def test_a_misspelt_parameter_of_the_notebooks_cell_stops_the_start() -> None:
    with pytest.raises(BadInput, match=r"^parameter 'stpes' is unknown in invertibility; allowed: scale, .*; did you mean 'steps'\?$"):
        reprolib.start("invertibility", {"In": ["", PARAMETERS_CELL], "scale": "smoke", "stpes": 40})


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert parameters.resolve_device("auto") == "cpu"
    with pytest.raises(BadInput, match="no usable GPU; allowed here: auto, cpu"):
        parameters.resolve_device("cuda")


@pytest.mark.parametrize("finding", registry.notebooks())
def test_papermill_sees_every_parameter_of_the_notebook_with_its_type_and_meaning(finding: str) -> None:
    seen = inspect_notebook(NOTEBOOKS / f"{finding}.ipynb")
    known = parameters.of(finding)
    assert list(seen) == list(known)
    for name, told in seen.items():
        assert told["inferred_type_name"] == known[name].kind.__name__
        assert told["help"]
        assert "=" not in told["help"]


@pytest.mark.parametrize("finding", registry.notebooks())
def test_the_notebooks_defaults_are_the_presets(finding: str) -> None:
    defaults = {name: told["default"].strip("\"'") for name, told in inspect_notebook(NOTEBOOKS / f"{finding}.ipynb").items()}
    assert parameters.validate(finding, defaults).overridden == {}
