from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planting import plant, together

from reprolib.errors import BadInput, CorruptFile, MissingData
from reprolib.judging import tidy
from reprolib.judging.tidy import COLUMNS, read_rows, rounded, write_rows


@pytest.fixture
def rows() -> pd.DataFrame:
    return plant("D", "distance", {"standard": [0.9, 0.91], "robust": [0.5, 0.51]}, n=8)


def test_what_is_read_is_what_was_rounded(rows: pd.DataFrame, tmp_path: Path) -> None:
    rows.loc[0, ["unit", "unit_2", "value", "reached"]] = ['a, "quoted" name', "", 1.23456789e-12, False]
    path = write_rows(tmp_path / "rows.csv.gz", rows)
    pd.testing.assert_frame_equal(read_rows(path), rounded(rows))


def test_rounding_keeps_six_digits_and_rounding_again_changes_nothing(rows: pd.DataFrame) -> None:
    rows["value"] = np.random.default_rng(0).normal(size=len(rows)) * 10.0 ** np.arange(-16, len(rows) - 16)
    once = rounded(rows)
    assert all(float(f"{value:.6g}") == value for value in once["value"])
    pd.testing.assert_frame_equal(rounded(once), once)
    np.testing.assert_allclose(np.sort(once["value"]), np.sort(rows["value"]), rtol=5e-6)


def test_equal_rows_in_any_order_give_equal_bytes(rows: pd.DataFrame, tmp_path: Path) -> None:
    one = write_rows(tmp_path / "one.csv.gz", rows).read_bytes()
    other = write_rows(tmp_path / "other.csv.gz", rows.sample(frac=1, random_state=1)).read_bytes()
    assert one == other
    assert one[4:8] == b"\0\0\0\0"  # the time of writing
    assert gzip.decompress(one).decode().splitlines()[0] == ",".join(COLUMNS)


def test_the_callers_frame_is_left_alone(rows: pd.DataFrame) -> None:
    before = rows.copy()
    rounded(rows)
    pd.testing.assert_frame_equal(rows, before)


def test_names_that_look_like_missing_values_survive(rows: pd.DataFrame, tmp_path: Path) -> None:
    named = rows.assign(unit_2="NA", network=rows["network"].map({name: f"{k:012d}" for k, name in enumerate(rows["network"].unique())}))
    assert set(read_rows(write_rows(tmp_path / "rows.csv.gz", named))["network"]) == {f"{k:012d}" for k in range(4)}
    assert set(read_rows(tmp_path / "rows.csv.gz")["unit_2"]) == {"NA"}


def broken(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    first = rows.index == 0
    return {
        "missing column": rows.drop(columns="unit_2"),
        "unknown column": rows.assign(unitt="x"),
        "not a number": rows.assign(value=np.where(first, np.nan, rows["value"])),
        "infinite": rows.assign(value=np.where(first, np.inf, rows["value"])),
        "no unit": rows.assign(unit=rows["unit"].where(~first, None)),
        "half a seed": rows.assign(seed=np.where(first, 0.5, rows["seed"])),
        "reached": rows.assign(reached="maybe"),
        "duplicate": together(rows, rows.iloc[[3]].assign(value=0.1)),
        "two recipes": rows.assign(recipe=np.where(first, "other", rows["recipe"])),
        "two arms": together(rows, rows.iloc[[0]].assign(arm="robust", recipe="recipe_robust")),
        "two seeds": rows.assign(seed=np.where(first, 5, rows["seed"])),
        "stale": together(rows, rows[rows["arm"] == "robust"].assign(network="0" * 12)[:8]),
    }[what]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing column", "rows have no column 'unit_2'"),
        ("unknown column", "unknown column 'unitt'; did you mean 'unit'"),
        ("not a number", "value is not a finite number in claim D, quantity distance, arm standard.*never NaN"),
        ("infinite", "value is not a finite number"),
        ("no unit", "row 0 has no unit"),
        ("half a seed", "seed is not a whole number"),
        ("reached", "reached is neither true nor false"),
        ("duplicate", "two rows for claim D.*unit target_003"),
        ("two recipes", "network .* is other/tiny/seed 0 in some rows and recipe_standard/tiny/seed 0"),
        ("two arms", "one set of weights has one recipe"),
        ("two seeds", "one set of weights has one recipe"),
        ("stale", "arm robust of D has two networks for recipe_robust, seed 0.*older training"),
    ],
)
def test_rows_that_are_not_what_they_should_be_are_refused(rows: pd.DataFrame, what: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        rounded(broken(rows, what))


def test_a_file_over_the_limit_is_not_written(rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidy, "MAX_BYTES", 200)
    with pytest.raises(BadInput, match="rows.csv.gz would be .* MB .32 rows.*belong in the cache"):
        write_rows(tmp_path / "rows.csv.gz", rows)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_missing_cut_short_or_of_another_kind_are_named(rows: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    with pytest.raises(MissingData, match="rows.csv.gz is not there"):
        read_rows(path)
    write_rows(path, rows)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CorruptFile, match="not a readable csv.gz"):
        read_rows(path)
    path.write_bytes(b"claim,quantity\n")
    with pytest.raises(CorruptFile, match="not a readable csv.gz"):
        read_rows(path)
    path.write_bytes(gzip.compress(b"claim,quantity\nD,distance\n"))
    with pytest.raises(CorruptFile, match="rows have no column 'arm'"):
        read_rows(path)
