"""Images in: every data set by name, with its fingerprint, its normaliser, and what to do when it is not there."""

from __future__ import annotations

from reprolib.data.images import Images
from reprolib.data.registry import NAMES, fetch, fingerprint, load, normaliser, status

__all__ = ["NAMES", "Images", "fetch", "fingerprint", "load", "normaliser", "status"]
