"""Checkpoints of other people: read safely, checked, given their normaliser, and converted to a format without code."""

from __future__ import annotations

from reprolib.models.checkpoints.layouts import NORMALISERS
from reprolib.models.checkpoints.loading import ExpectedAccuracy, convert, load_public
from reprolib.models.checkpoints.own import open_checkpoint

__all__ = ["NORMALISERS", "ExpectedAccuracy", "convert", "load_public", "open_checkpoint"]
