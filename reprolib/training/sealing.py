"""Seal files of before there were checksums: `python -m reprolib.training.sealing data/zoo/cifar` (files, or folders of them).

A network is sealed together with its card, once its weights have the sha256 that the card names; a training state, snapshot or
cache entry gets a checksum of its own. Tensors stay as they are. What is sealed already is verified.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from reprolib import store
from reprolib.errors import CorruptFile, MissingData, ReprolibError
from reprolib.models.networks import state_sha256


def seal(path: Path) -> None:
    """Seal one safetensors file. Raises CorruptFile where weights and card do not belong together, or a seal is broken."""
    tensors, metadata = store.read_safetensors(path, is_ours=False)  # verifies a checksum where there is one
    beside = path.with_suffix(".json")
    if "card" in metadata:
        store.read_card(path)
    elif beside.exists():
        try:
            card = json.loads(beside.read_text(encoding="utf-8"))
            found, told, key = state_sha256(tensors), str(card["sha256"]), card["key"]
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptFile(f"{beside} is no card of a network ({error}); it is not sealed") from error
        if (found, metadata.get("key")) != (told, key):
            raise CorruptFile(
                f"{path}: the weights' sha256 {found[:12]} is not the card's {told[:12]}, or their keys differ; it is not sealed"
            )
        store.write_network(path, tensors, card, metadata)
    else:
        store.write_safetensors(path, tensors, metadata)


def main(arguments: Sequence[str]) -> int:
    """Seal every .safetensors file that is named or lies in a folder that is; return the exit code."""
    n, code = 0, 0
    for given in map(Path, arguments):
        files = sorted(given.rglob("*.safetensors")) if given.is_dir() else [given]
        for path in files:
            try:
                if not path.is_file():
                    raise MissingData(f"{path} is not there: name safetensors files, or folders that hold some")
                seal(path)
                n += 1
            except ReprolibError as error:
                print(f"reprolib: {error}", file=sys.stderr)
                code = error.exit_code
    print(f"{n} sealed")
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
