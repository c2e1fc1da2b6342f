"""A kept measurement knows the code that made it: what counts as a change, what does not, and what is refused."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from reprolib import code_hash
from reprolib.code_hash import code_of
from reprolib.errors import BadInput
from reprolib.findings.invertibility.inverting import invert_code
from reprolib.measures import perceptual


def notebook(tmp_path: Path, source: str, name: str = "cells") -> ModuleType:
    """A module that is not of the package, as a notebook's cells are not."""
    path = tmp_path / f"{name}.py"
    path.write_text("from reprolib.measures import perceptual\nimport torch\n" + source)
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def question(tmp_path: Path, body: str, before: str = "", name: str = "cells") -> Callable[..., object]:
    import linecache

    linecache.clearcache()
    found: Callable[..., object] = notebook(tmp_path, f"{before}\n\ndef question(network, images):\n{body}\n", name).question
    return found


PLAIN = "    return {'a': perceptual.ssim(images, images)}"


def test_comments_and_docstrings_do_not_count_and_everything_else_does(tmp_path: Path) -> None:
    first = code_of(question(tmp_path, PLAIN))
    assert code_of(question(tmp_path, "    # a remark\n" + PLAIN)) == first
    assert code_of(question(tmp_path, "    '''What is asked.'''\n" + PLAIN)) == first
    assert code_of(question(tmp_path, PLAIN.replace("'a'", "'b'"))) != first
    assert code_of(question(tmp_path, PLAIN.replace("ssim", "lowpass_mse"))) != first


def test_globals_count_by_value_and_functions_of_the_notebook_are_followed(tmp_path: Path) -> None:
    body = "    return {'a': helper(images) * k}"
    of = {
        k: code_of(question(tmp_path, body, f"k = {k}\n\ndef helper(x):\n    return x + {add}"))
        for k, add in (("2", 1), ("3", 1), ("torch.ones(2)", 1), ("torch.ones(3)", 1), ("torch.bool", 1), ("(2, 'a')", 1))
    }
    assert len(set(of.values())) == len(of)
    assert code_of(question(tmp_path, body, "k = 2\n\ndef helper(x):\n    return x + 2")) != of["2"]
    assert code_of(question(tmp_path, body, "k = 2\nunused = 5\n\ndef helper(x):\n    return x + 1")) == of["2"]


@pytest.mark.parametrize(
    "body",
    [
        "    return list(map(lambda one: helper(one) * k, images))",
        "    return [helper(one) * k for one in images]",
        "    def inner(one):\n        return {0: helper(one) * k for _ in one}\n    return inner(images)",
    ],
)
def test_what_a_function_reads_in_a_function_or_comprehension_inside_it_counts_too(tmp_path: Path, body: str) -> None:
    of = [
        code_of(question(tmp_path, body, f"k = {k}\n\ndef helper(x):\n    return x + {add}")) for k, add in ((2, 1), (3, 1), (2, 2), (2, 1))
    ]
    assert len(set(of)) == 3
    assert of[0] == of[3]
    source = "    return [{name}(images) for _ in images]"
    ours = "from reprolib.measures.perceptual import ssim, lowpass_mse"
    calls = [code_of(question(tmp_path, source.format(name="measure"), f"{ours}\nmeasure = {name}")) for name in ("ssim", "lowpass_mse")]
    assert calls[0] != calls[1]
    own = "    return [one for one in images]"  # a local name is not the global of that name
    assert code_of(question(tmp_path, own, "one = 1")) == code_of(question(tmp_path, own, "one = object()"))


def test_a_global_whose_value_cannot_be_told_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cells.question: held is a object, .* use numbers, texts, tensors, networks and images"):
        code_of(question(tmp_path, "    return {'a': held}", "held = object()"))


def test_what_the_library_calls_is_followed_through_rooms_and_aliases(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: dict[str, str] = {}
    code_hash._follow_definition(invert_code.__module__, "invert_code", parts)
    assert "reprolib.measures.perceptual.relative_distance" in parts  # three rooms down
    assert "reprolib.perturb.engine.minimise" in parts
    assert not [name for name in parts if name.startswith(("reprolib.scales", "reprolib.store", "reprolib.errors", "reprolib.study"))]


def test_editing_a_measure_three_rooms_down_changes_the_key_and_its_words_do_not(tmp_path: Path) -> None:
    copy = tmp_path / "reprolib"
    subprocess.run(["cp", "-r", str(code_hash.PACKAGE), str(copy)], check=True)
    measure = copy / "measures" / "perceptual.py"
    text = measure.read_text()

    def key() -> str:
        code = "from reprolib.code_hash import code_of; from reprolib.findings.invertibility.inverting import invert_code; print(code_of(invert_code))"
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={"PYTHONPATH": str(tmp_path), "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    first = code_of(invert_code)
    changed = text.replace("return difference.norm(dim=1) / target", "return 2 * difference.norm(dim=1) / target")
    reworded = text.replace("d_rep: the distance of two codes", "d_rep, the distance of codes")
    for edited, is_same in ((changed, False), (reworded, True)):
        assert edited != text
        measure.write_text(edited)
        assert (key() == first) == is_same


def test_a_function_that_is_handed_in_counts_and_one_that_only_reports_does_not() -> None:
    def made(distance: Callable[..., torch.Tensor], report: Callable[[str], None]) -> Callable[[], None]:
        def compute() -> None:
            report("now")
            distance()

        return compute

    first = code_of(made(perceptual.ssim, print))
    assert code_of(made(perceptual.lowpass_mse, print)) != first
    assert code_of(made(perceptual.ssim, [].append)) == first


def test_a_module_that_was_edited_after_it_was_loaded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path(perceptual.__file__).read_text()
    code_hash._check_loaded(perceptual.__name__, text)
    with pytest.raises(BadInput, match=r"edited after it was loaded \(relative_distance is another one now\): restart the kernel"):
        code_hash._check_loaded(perceptual.__name__, text.replace("clamp_min(1e-12)", "clamp_min(1e-6)"))
