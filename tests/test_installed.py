"""Installed without a clone: measures and perturb work, findings say what they need, nothing is written beside the package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import reprolib

WORK = """
import os

import reprolib
import torch
from reprolib import cli
from reprolib.errors import MissingData
from reprolib.measures.cka import cka
from reprolib.models.networks import build
from reprolib.perturb.attacks import pgd
from reprolib import data, start, store

x = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
net = build("tinycnn", 2, (0.5,) * 3, (0.25,) * 3, seed=0).eval()
assert pgd(net, x, torch.arange(8) % 2, eps=8 / 255, steps=2).shape == x.shape
assert abs(cka(x.flatten(1), x.flatten(1)) - 1) < 1e-5
here = os.environ.pop("REPROLIB_DATA")
for line in ("run", "run invertibility --scale smoke", "claims", "train --scale smoke", "data status", "data fetch cifar10", "calibrate"):
    print(cli.main(line.split()), line, flush=True)
for ask in (lambda: start("invertibility", {}), lambda: data.load("shapetexture", "test"), lambda: store.cache("kind", {}, dict)):
    try:
        ask()
    except MissingData as error:
        print(3, str(error)[:30])
os.environ["REPROLIB_DATA"] = here
assert [str(place) for place in store.data_roots()] == [here]
assert len(data.status()) > 5
assert len(reprolib.cka_map(net, x.repeat(2, 1, 1, 1)).layers) > 2
"""


def test_an_installed_package_says_that_findings_need_a_clone_and_is_never_written_to(tmp_path):
    """A wheel holds the package alone, as it is copied here."""
    site, away = tmp_path / "site-packages", tmp_path / "away"
    shutil.copytree(Path(reprolib.__file__).parent, site / "reprolib", ignore=shutil.ignore_patterns("__pycache__"))
    away.mkdir()
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*")}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REPROLIB_")}
    done = subprocess.run(
        [sys.executable, "-B", "-c", WORK],
        cwd=away,
        env=environment | {"PYTHONPATH": str(site), "REPROLIB_DATA": str(away)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert [line[:2] for line in done.stdout.splitlines()] == ["3 "] * 10, done.stdout
    said = done.stderr.splitlines()
    assert len(said) == 7, done.stderr
    wanted = f"reprolib: findings need a clone of the repository, and {site}, where reprolib is installed, is none"
    assert all(line.startswith(wanted) for line in said), done.stderr
    assert {path: path.stat().st_mtime_ns for path in site.rglob("*")} == before
    assert not list(away.iterdir())


def test_an_installed_package_calibrates_nothing_even_where_a_clone_is_named(tmp_path, monkeypatch):
    from reprolib import cli

    monkeypatch.setenv("REPROLIB_ROOT", str(tmp_path))  # the package is not in it
    assert cli.main(["calibrate"]) == 5
    assert not list(tmp_path.iterdir())
