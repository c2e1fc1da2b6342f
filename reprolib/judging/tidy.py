"""Tidy rows: one schema for all findings, checked, rounded, and kept as a small reproducible csv.gz."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from reprolib import store
from reprolib.errors import BadInput, CorruptFile, MissingData, nearest
from reprolib.models.networks import Network

COLUMNS = ("claim", "quantity", "arm", "recipe", "architecture", "seed", "network", "unit", "unit_2", "value", "reached")
KEY = ["claim", "quantity", "arm", "seed", "network", "unit", "unit_2"]
MAX_BYTES = 1_500_000
DIGITS = 6
_TEXT = [column for column in COLUMNS if column not in ("seed", "value", "reached")]


def identity(role: str, network: Network) -> dict[str, Any]:
    """Who was measured: the columns arm, recipe, architecture, seed and network of a row; from the network's card."""
    described = network.card["description"]
    return {
        "arm": role, "recipe": described["recipe"]["id"], "architecture": described["architecture"],
        "seed": described["seed"], "network": network.sha256[:12],
    }  # fmt: skip


def row(claim: str, quantity: str, unit: object, unit_2: str, value: object, reached: object) -> dict[str, Any]:
    """What was measured: the other columns of a row; value and reached may be tensors of one element."""
    return {"claim": claim, "quantity": quantity, "unit": str(unit), "unit_2": unit_2, "value": float(value), "reached": bool(reached)}  # type: ignore[arg-type]


def rows_of(
    claim: str,
    quantity: str,
    role: str,
    network: Network,
    units: Sequence[str],
    values: Tensor,
    reached: Tensor | bool = True,
    unit_2: Sequence[str] | str = "",
) -> pd.DataFrame:
    """Rows of one quantity of a network: values (n,) of n units, to 4 significant digits, and whether each was reached."""
    told = {"claim": claim, "quantity": quantity, **identity(role, network), "unit": list(units), "unit_2": unit_2}
    short = [float(f"{one:.4g}") for one in values.double().tolist()]
    return pd.DataFrame({**told, "value": short, "reached": reached if isinstance(reached, bool) else reached.cpu().numpy()})


def card_rows(role: str, network: Network) -> pd.DataFrame:
    """What the manipulation check reads: the card's accuracies, clean, under attack and under noise, all on the same first test images."""
    attack, clean = network.card["adversarial"][0], network.card["clean"]
    accuracies = {
        "clean_accuracy": clean["first_value"], "adversarial_accuracy": attack["first_value"],
        "noise_accuracy": attack["noise"], "gradient_zero_share": attack["gradient_zero_share"],
    }  # fmt: skip
    base = identity(role, network)
    return pd.DataFrame([base | row("networks", quantity, "test", "", value, True) for quantity, value in accuracies.items()])


def rounded(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as they are stored and judged: checked, in schema order, sorted, values to 6 significant digits.

    Raises BadInput for missing or unknown columns, a value that is not finite, duplicates, or a network whose recipe,
    architecture or seed is not one and the same in all its rows. The frame given is not changed.
    """
    for column in COLUMNS:
        if column not in rows.columns:
            raise BadInput(f"rows have no column {column!r}: the schema is {', '.join(COLUMNS)}")
    for column in rows.columns:
        if column not in COLUMNS:
            raise BadInput(f"rows have an unknown column {column!r}{nearest(column, COLUMNS)}; the schema is {', '.join(COLUMNS)}")
    table = rows.loc[:, list(COLUMNS)].reset_index(drop=True)
    for column in _TEXT:
        missing = table[column].isna()
        if missing.any():
            raise BadInput(f"row {missing.to_numpy().argmax()} has no {column}: every row names one (unit_2 may be an empty text)")
        table[column] = table[column].astype(str)
    value = pd.to_numeric(table["value"], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    if not np.isfinite(value).all():
        row = _describe(table, ~np.isfinite(value))
        raise BadInput(f"value is not a finite number in {row}: a failed measurement is given its failure value, never NaN")
    table["value"] = [float(f"{number:.{DIGITS}g}") + 0.0 for number in value.tolist()]
    seed = pd.to_numeric(table["seed"], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    if not (whole := seed == np.round(seed)).all():
        raise BadInput(f"seed is not a whole number in {_describe(table, ~whole)}")
    table["seed"] = seed.astype(np.int64)
    if table["reached"].isna().any() or not table["reached"].isin([True, False]).all():
        raise BadInput("reached is neither true nor false in some row: give True where nothing had to be reached")
    table["reached"] = table["reached"].astype(bool)
    _check_identities(table)
    return table.sort_values(list(COLUMNS[:9]), kind="stable", ignore_index=True)


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Rows of several measurements as `rounded` gives them; of rows that are there twice the last stays."""
    return rounded(pd.concat(frames, ignore_index=True).drop_duplicates(KEY, keep="last", ignore_index=True))


def rows_hash(rows: pd.DataFrame) -> str:
    """The first 12 digits of a sha256 over rows as `rounded` gives them."""
    told = pd.util.hash_pandas_object(rows[list(COLUMNS)], index=False).to_numpy()
    return hashlib.sha256(told.tobytes()).hexdigest()[:12]


def write_rows(path: str | os.PathLike[str], rows: pd.DataFrame, is_rounded: bool = False) -> Path:
    """Write `rounded(rows)` as csv.gz, atomically; equal rows give equal bytes. is_rounded: the rows are as `rounded` gave them.

    Raises BadInput when the file would pass 1.5 MB, the most a finding may commit at one scale.
    """
    table = rows.copy(deep=False) if is_rounded else rounded(rows)
    table["reached"] = table["reached"].astype(int)
    table["value"] = [f"{number:.{DIGITS}g}" for number in table["value"]]
    content = gzip.compress(table.to_csv(index=False, lineterminator="\n").encode(), compresslevel=6, mtime=0)
    if len(content) > MAX_BYTES:
        raise BadInput(
            f"{Path(path).name} would be {len(content) / 1e6:.2f} MB ({len(table)} rows), at most {MAX_BYTES / 1e6} MB may be committed: "
            "keep only rows that claims or figures use, wider arrays belong in the cache"
        )
    return store.write_bytes(path, content)


def read_rows(path: str | os.PathLike[str]) -> pd.DataFrame:
    """The rows of a file written by `write_rows`, checked again.

    Raises MissingData when it is not there, CorruptFile when it is not such a file.
    """
    path = Path(path)
    if not path.exists():
        raise MissingData(f"{path} is not there: run the finding's notebook at that scale to make it")
    try:
        text = gzip.decompress(path.read_bytes()).decode()
        table = pd.read_csv(io.StringIO(text), dtype="str", keep_default_na=False)
        for column, kind in (("seed", int), ("value", float), ("reached", int)):
            if column in table:
                table[column] = [kind(word) for word in table[column]]
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise CorruptFile(f"{path} is not a readable csv.gz of rows ({error}); restore it or run the notebook again") from error
    try:
        return rounded(table)
    except BadInput as error:
        raise CorruptFile(f"{path} does not hold rows of the schema: {error}") from error


def _check_identities(table: pd.DataFrame) -> None:
    doubled = table.duplicated(KEY)
    if doubled.any():
        raise BadInput(f"there are two rows for {_describe(table, doubled.to_numpy())}: keep one, or tell them apart by unit_2")
    networks = table[["network", "recipe", "architecture", "seed"]].drop_duplicates()
    twice = networks[networks.duplicated("network", keep=False)].sort_values(["network", "recipe"], kind="stable")
    if len(twice):
        one, other = twice.iloc[0], twice.iloc[1]
        raise BadInput(
            f"network {one['network']} is {one['recipe']}/{one['architecture']}/seed {one['seed']} in some rows and "
            f"{other['recipe']}/{other['architecture']}/seed {other['seed']} in others: one set of weights has one recipe"
        )
    made = table[["claim", "quantity", "arm", "recipe", "architecture", "seed", "network"]].drop_duplicates()
    again = made.duplicated(["claim", "quantity", "arm", "recipe", "architecture", "seed"])
    if again.any():
        row = made[again].iloc[0]
        raise BadInput(
            f"arm {row['arm']} of {row['claim']} has two networks for {row['recipe']}, seed {row['seed']}: "
            "rows of an older training are mixed in, measure again from the networks that count"
        )


def _describe(table: pd.DataFrame, mask: np.ndarray) -> str:
    row = table.iloc[int(mask.argmax())]
    return ", ".join(f"{column} {row[column]}" for column in KEY)
