"""Natural preferences: which textures of photographs, which classes and how much colour a unit's mean activation tells apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.data.folders import TEXTURES
from reprolib.data.images import Images, pick
from reprolib.errors import MissingData
from reprolib.findings.simplicity_biases import kinds
from reprolib.findings.simplicity_biases.kinds import Question
from reprolib.findings.simplicity_biases.rows import IN_FULL
from reprolib.models.networks import Network
from reprolib.study import Study

CLAIM = "SIM-4"
PREFERENCES = ("texture_auroc", "class_auroc", "colour_r2")
FLOORS = ("texture_auroc_floor", "class_auroc_floor")


@dataclass(frozen=True)
class Natural:
    """Photographs of things and of textures, labelled; x: the photographs of things."""

    photographs: Images
    textures: Images

    @property
    def x(self) -> Tensor:
        """(n, 3, h, w) uint8."""
        return self.photographs.x

    @property
    def key(self) -> str:
        """A hash of both."""
        return store.content_key({"photographs": self.photographs.sha256, "textures": self.textures.sha256})


def natural(study: Study) -> Natural:
    """The first `n_natural` test images and the describable textures, all at 32 px. Raises MissingData where the textures are not here."""
    source = study.images("test")
    photographs = pick(source, torch.arange(min(study.settings.values["n_natural"], len(source))))
    return Natural(photographs, study.reads(TEXTURES.load()))


def preferences(study: Study, nets: Mapping[str, Sequence[Network]], question: Question) -> pd.DataFrame:
    """Rows of SIM-4 that a question gives of every live unit; none where the scale has no photographs, committed ones where textures are absent."""
    if not study.can_measure or not study.settings.values.get("n_natural"):
        return pd.DataFrame()
    try:
        images = natural(study)
    except MissingData as error:
        print(f"{error}. Their rows are the committed ones.")
        return committed(study, (*PREFERENCES, *FLOORS))
    test, frames = kinds.shown(study), []
    for role, network in study.each(nets):
        found = kinds.asked(study, network, question, images, images.key)
        frames += kinds.unit_rows(CLAIM, role, network, found, kinds.alive(network, test), None if role in IN_FULL else PREFERENCES)
    return pd.concat(frames, ignore_index=True)


def committed(study: Study, quantities: Sequence[str]) -> pd.DataFrame:
    """Committed rows of SIM-4 of some quantities; none of a run with a turned knob, and none where there are none."""
    if study.settings.overridden or not (study.committed / "rows.csv.gz").exists():
        return pd.DataFrame()
    rows = study.committed_rows()
    return rows[(rows["claim"] == CLAIM) & rows["quantity"].isin(list(quantities))]
