"""Rows with known answers: levels of arms and seeds go in, the verdict that must come out is known by construction."""

from __future__ import annotations

import hashlib
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reprolib.findings.block_structure import judging as block_structure
from reprolib.findings.invertibility import judging as invertibility
from reprolib.judging import claims as judged
from reprolib.judging.evidence import Evidence
from reprolib.judging.ledger import Claim, load_claims
from reprolib.judging.quantities import Correlation, auroc, margin, ratio
from reprolib.judging.tidy import COLUMNS

planted = types.ModuleType("reprolib.findings.planted.judging")  # the planted finding judges as if it had a judging.py of its own
planted.CONDITIONS = invertibility.CONDITIONS | block_structure.CONDITIONS  # type: ignore[attr-defined]
planted.QUANTITIES = block_structure.QUANTITIES | {  # type: ignore[attr-defined]
    "bias": ratio("answers"),
    "auroc": auroc("inside", outside="outside"),
    "agreement": Correlation("level", "accuracy", y_rows="networks"),
}
planted.CONTROLS = {"margin": margin}  # type: ignore[attr-defined]
for name in ("is_index", "is_of_pairs", "rows_of", "Indices"):
    setattr(planted, name, getattr(block_structure, name))
sys.modules[planted.__name__] = planted


def entry(name: str, quantity: str, rest: str = "", **changed: str) -> str:
    """An entry of a planted claims.toml: a difference of a quantity, robust minus standard, unless told otherwise; values as in TOML."""
    fields = {
        "id": f'"{name}"', "finding": '"planted"', "paper": '"0000.00000"', "statement": f'"{name}: planted."', "quantity": f'"{quantity}"',
        "statistic": '"difference"', "arms": '["standard", "robust"]', "direction": '"greater"', "unit": '"target"',
        "smallest_effect": "0.05", "smallest_effect_reason": '"planted"', "required_at": '["laptop"]', "controls": "[]", "parts": "[]",
        "deviations": '""', "version": "1",
    } | changed  # fmt: skip
    return "[[claim]]\n" + "".join(f"{key} = {value}\n" for key, value in fields.items()) + rest + "\n"


LESS, GAUSS = {"direction": '"less"'}, {"controls": '["gauss"]'}
ALL = """[
  { name = "distance", claim = "D" },
  { name = "recognised", claim = "S" },
  { name = "beside", quantity = "other", shown = true },
]"""
LEDGER = "".join([
    entry("D", "distance", **LESS, **GAUSS, parts='["other"]'),
    entry("S", "recognised", **GAUSS, smallest_effect="0.1"),
    entry("L", "level", statistic='"level"', arms='["robust"]', level_reference="0.5"),
    entry("R", "bias", **GAUSS),
    entry("U", "auroc", **GAUSS),
    entry("T", "distance", **LESS, statistic='"trend"', arms='["standard", "robust_small", "robust"]', checks='["converged"]'),
    entry("A", "distance", **LESS, rule='"all"', rows_of='"D"', checks='["converged"]', parts=ALL, controls='["gauss", "std_matched"]'),
    '[not_applicable.gpu]\ngauss = "no such network here"\n',
])  # fmt: skip


def in_file(folder: Path, text: str) -> dict[str, Claim]:
    """The claims of a claims.toml of that text, written into a folder."""
    path = folder / "claims.toml"
    path.write_text(text)
    return load_claims(path=path)


def judge(claim: str, rows: pd.DataFrame, scale: str, claims: Mapping[str, Claim] | None = None) -> dict[str, Any]:
    """The answers to one claim, from rows."""
    return judged.judge(claim, Evidence(rows, scale, claims))


def judge_finding(finding: str, rows: pd.DataFrame, scale: str, claims: Mapping[str, Claim] | None = None) -> list[dict[str, Any]]:
    """The answers to all claims of a finding, from rows."""
    return judged.judge_finding(finding, Evidence(rows, scale, claims))


def near(level: float) -> list[float]:
    """Three networks of about that level."""
    return [level, level + 0.01, level - 0.01]


def network(arm: str, seed: int) -> str:
    """The key of the one network of an arm and seed."""
    return hashlib.sha256(f"{arm} {seed}".encode()).hexdigest()[:12]


def plant(
    claim: str,
    quantity: str,
    levels: Mapping[str, Sequence[float]],
    n: int = 24,
    starts: Sequence[str] = ("noise_0",),
    noise: float = 0.02,
    share: bool = False,
    reached: bool = True,
    prefix: str = "target",
) -> pd.DataFrame:
    """Rows of n units: arm -> one level a seed. A share's units are 1 up to that share of n, others scatter round the level by `noise`."""
    generator = np.random.default_rng(7)
    common = generator.normal(0, noise, n)
    rows = []
    for arm, values in levels.items():
        for seed, level in enumerate(values):
            for unit in range(n):
                for start in starts:
                    value = float(unit < round(level * n)) if share else level + common[unit] + generator.normal(0, noise / 4)
                    rows.append(
                        (
                            claim,
                            quantity,
                            arm,
                            f"recipe_{arm}",
                            "tiny",
                            seed,
                            network(arm, seed),
                            f"{prefix}_{unit:03d}",
                            start,
                            value,
                            reached,
                        )
                    )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def cards(adversarial: Mapping[str, float], clean: Mapping[str, float] | None = None, seeds: int = 3) -> pd.DataFrame:
    """Card rows: arm -> accuracy, the same for every seed."""
    clean = clean or dict.fromkeys(adversarial, 0.8) | {"robust": 0.7}
    frames = [
        plant("networks", quantity, {arm: [value] * seeds for arm, value in table.items()}, n=1, starts=("",), noise=0, prefix="test")
        for quantity, table in (("adversarial_accuracy", adversarial), ("clean_accuracy", clean))
    ]
    return pd.concat(frames, ignore_index=True)


def good_cards() -> pd.DataFrame:
    """Networks that differ as adversarial training makes them differ, and whose clean accuracies are 10 points apart."""
    return cards({"standard": 0.05, "robust_small": 0.4, "robust": 0.6, "gauss": 0.1})


def converged(moved: float = 0.01, arms: Sequence[str] = ("standard", "robust_small", "robust"), seeds: int = 3) -> pd.DataFrame:
    """Doubled-budget rows whose median final distance changes by `moved`."""
    once = plant("converged", "final_distance", {arm: [0.2] * seeds for arm in arms}, n=8, starts=("noise_0|x1",), noise=0.001)
    twice = once.assign(unit_2="noise_0|x2", value=once["value"] - moved)
    return pd.concat([once, twice], ignore_index=True)


def together(*frames: pd.DataFrame) -> pd.DataFrame:
    """One frame of all rows."""
    return pd.concat(frames, ignore_index=True)
