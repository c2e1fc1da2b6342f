"""What a stage has the finding measure is what the protocol asks for later, so that it finds it in the cache."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pandas as pd
import problems
import pytest
from inverses import carded, planted_set

from reprolib import data, parameters, registry, scales
from reprolib.findings.invertibility import protocol, staging
from reprolib.models.networks import Network
from reprolib.training import zoo

PRESET = registry.settings("invertibility")["presets"]["smoke"] | {"n_targets": 4, "steps": 10, "n_converged": 2}
TINY = scales.SMOKE
SETTINGS = registry.settings("invertibility")
RECIPES = {"standard": "std", "robust": "l2_075", "robust_small": "l2_025", "blur": "blur", "untrained": "untrained"}


@pytest.fixture
def nets(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> dict[str, list[Network]]:
    """One network a role in a planted zoo, on planted images."""
    made = {role: [carded(0, recipe)] for role, recipe in RECIPES.items()}
    of = {recipe: made[role][0] for role, recipe in RECIPES.items()}
    monkeypatch.setenv("REPROLIB_CACHE", str(tmp_path / "cache"))
    own = {**SETTINGS, "presets": {**SETTINGS["presets"], "smoke": PRESET | {"n_grey": 1}}}
    monkeypatch.setattr(registry, "settings", lambda finding: own)
    monkeypatch.setattr(data, "load", lambda name, split: planted_set())
    monkeypatch.setattr(zoo, "load", lambda spec, device: of[spec.recipe])
    monkeypatch.setattr(zoo, "card_of", lambda spec: of[spec.recipe].card)
    return made


def spec(recipe: str, architecture: str = "tinycnn", dataset: str = TINY.dataset) -> zoo.Spec:
    return zoo.Spec(recipe, architecture, dataset, 0, "smoke")


def test_the_protocol_finds_in_the_cache_what_was_measured_network_by_network(
    nets: dict[str, list[Network]], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    for recipe in RECIPES.values():
        staging.measure(spec(recipe), "cpu", said.append)
    assert len(said) == 8  # each once, and three roles once more with twice the steps
    study = SimpleNamespace(
        can_measure=True, settings=parameters.validate("invertibility", {"scale": "smoke"}), device="cpu", report=said.append,
        images=lambda split: planted_set(),
        first_training_images=lambda n: planted_set(),
    )  # fmt: skip
    monkeypatch.setattr(protocol, "PARTS", {})
    monkeypatch.setattr(protocol, "CODE_SIZES", (1,))
    monkeypatch.setattr(protocol, "_carried_over", lambda study, rows: rows.iloc[:0])
    said.clear()
    measured = protocol.run(study, nets, {"standard": problems.network(seed=5), "robust": problems.network(seed=6)})  # type: ignore[arg-type]
    assert set(measured.rows["arm"]) >= set(RECIPES)
    assert [line for line in said if "1 x 1 code" not in line] == []


def test_what_plays_no_role_and_a_control_that_does_not_match_are_not_measured(
    nets: dict[str, list[Network]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "load", lambda name, split: pytest.fail("nothing should be measured"))
    monkeypatch.setattr(zoo, "card_of", lambda spec: {})
    for other in (spec("std", architecture="lenet"), spec("std", dataset="shapetexture"), spec("gauss_40")):
        staging.measure(other, "cpu", print)
    monkeypatch.setattr(zoo, "card_of", lambda spec: {"matching": {"matched": False}})
    staging.measure(spec("std_matched"), "cpu", print)


@pytest.mark.parametrize("has_robust", [True, False])
def test_rows_and_verdicts_are_written_when_both_arms_are_there(
    nets: dict[str, list[Network]], monkeypatch: pytest.MonkeyPatch, has_robust: bool
) -> None:
    done: list[str] = []

    class Study:
        folder = SimpleNamespace(name="invertibility")

        def __init__(self, settings: parameters.Settings) -> None:
            assert settings.scale is TINY
            self.networks: Callable[[], Any] = lambda: nets if has_robust else nets | {"robust": []}
            self.judges: Callable[[], Any] = dict
            self.rows: Callable[[Any], Any] = lambda rows: done.append(f"{len(rows)} row")
            self.finish: Callable[[], Any] = lambda: done.append("finished")

    monkeypatch.setattr(staging, "Study", Study)
    monkeypatch.setattr(staging, "run", lambda study, nets, judges: SimpleNamespace(rows=pd.DataFrame({"value": [1]})))
    said: list[str] = []
    staging.conclude("smoke", "cpu", said.append)
    assert done == (["1 row", "finished"] if has_robust else [])
    assert ("no rows yet" in said[0]) == (not has_robust)
