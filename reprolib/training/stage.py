"""Training on a machine that is there for some minutes: what is missing of some scales, in the order of work, into one folder.

The folder has the layout of `data/` and is all that the next call, here or on another machine, needs to continue:

    zoo/<scale>/        weights and cards, those of the repository's own zoo among them
    training/<scale>/   trainings that time ran out on, as they were after their last epoch
    snapshots/<scale>/  states kept while training; cache/ and figures/: what the measures left
    logs/<scale>/       of each network what it reported (.log), its seconds and its hardware (.json)
    summary.json        what is there, what is missing, and the next command

Names carry keys and weights are checked when they are read, so `cp -rn FOLDER/zoo/. data/zoo/` brings the networks home.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from reprolib import data, provenance, scales, store
from reprolib.errors import BadInput, CorruptFile, ReprolibError
from reprolib.training import measures, pool, zoo
from reprolib.training.recipes import recipe
from reprolib.training.specs import Spec, shown, snapshot_folder, spec_of, state_path, zoo_folder

STAGED = ("cifar", "gpu")

PRIOR: dict[tuple[str, str], float] = {("cpu", "cuda"): 0.1, ("cuda", "cpu"): 100.0}
"""How many times the table's minutes a training takes on the other kind of device, until one was timed there: cautious guesses."""

EPOCH = re.compile(r"^(\S+): epoch +(\d+)/(\d+) ")

clock = time.time  # of the wall: several processes keep one deadline
Report = Callable[[str], None]


class OutOfTime(Exception):
    """The next epoch would end after the deadline; what was trained so far is kept."""
