"""What the number of images does to CKA: the plain (biased) form rises as batches shrink, the unbiased one does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.findings.block_structure.batches import batches
from reprolib.findings.block_structure.networks import DRAWN, Compared
from reprolib.findings.block_structure.question import Question, grams
from reprolib.findings.block_structure.rows import SHOWN, measuring, single, tidied
from reprolib.measures.cka import MinibatchCKA, cka
from reprolib.measures.indices import off_diagonal_mean
from reprolib.models.networks import Network
from reprolib.study import Study

SIZES = (50, 100, 250, 1000)
GAUSSIAN_SIZES = (32, 64, 128, 256, 512)
GAUSSIAN_UNITS = 1000
DRAWS = 8


NOBODY: dict[str, Any] = {"arm": "judge", "recipe": "none", "architecture": "gaussian", "seed": 0, "network": "pixels"}
"""Whose the independent Gaussians are."""


@measuring
def measure(nets: Compared, question: Question) -> list[pd.DataFrame]:
    """Rows, shown: CKA of independent Gaussians, and the off-diagonal mean of the first network of each deep role, by batch size."""
    gaussians = independent_gaussians()
    table = {"unit": [f"draw {draw}" for *_, draw in gaussians], "unit_2": [f"{kind}|{n}" for kind, n, _ in gaussians]}
    frames = [pd.DataFrame({**table, "value": gaussians.values()}).assign(claim=SHOWN, quantity="gaussian_cka", reached=True, **NOBODY)]
    for role in (*DRAWN, "untrained"):
        for network in nets.deep.get(role, ())[:1]:
            by_size = batch_sizes(nets.study, network, question)
            values = {f"{kind}|{n}": value for (kind, n), value in by_size.items()}
            frames.append(tidied(SHOWN, "off_diagonal_mean_by_n", role, network, single(values)))
    return frames


def independent_gaussians() -> dict[tuple[str, int, int], float]:
    """("biased" or "unbiased", n, draw) -> CKA of two independent Gaussian representations of n examples and 1,000 units: 0 in truth."""
    values = {}
    for n in GAUSSIAN_SIZES:
        generator = torch.Generator().manual_seed(n)
        for draw in range(DRAWS):
            x, y = (torch.randn(n, GAUSSIAN_UNITS, generator=generator) for _ in range(2))
            for name, unbiased in (("biased", False), ("unbiased", True)):
                values[name, n, draw] = cka(x, y, unbiased)
    return values


def batch_sizes(study: Study, network: Network, question: Question, sizes: Sequence[int] = SIZES) -> dict[tuple[str, int], float]:
    """("biased" or "unbiased", n) -> off-diagonal mean of the CKA matrix, from the first images, as many as the largest size, cut into batches of n.

    The network runs once, on one batch of the largest size; a smaller batch's Gram is a block of the large one's, which its
    own centring puts right. Sizes that do not divide the largest, or exceed the set, are left out.
    """
    images = study.images("test")
    largest = max(n for n in sizes if n <= len(images))
    used = [n for n in sizes if n <= largest and largest % n == 0]
    large = batches(images, largest, 1, study.device)
    described = large.describe() | {"network": network.sha256, "sizes": used}

    def compute() -> dict[str, Tensor]:
        study.report(f"{network.card['name']}: CKA by batch size")
        unbiased: dict[int, MinibatchCKA] = {}
        biased: dict[int, list[Tensor]] = {n: [] for n in used}
        for x in large:
            whole = [*grams(question, network, x).values()]
            for n in used:
                one = unbiased.setdefault(n, MinibatchCKA(len(whole)))
                for start in range(0, largest, n):
                    blocks = [gram[start : start + n, start : start + n] for gram in whole]
                    one.update_grams(blocks)
                    rows = torch.stack([_centred(block).flatten() for block in blocks])
                    biased[n].append(rows @ rows.T)
        tensors = {f"unbiased {n}": torch.from_numpy(one.matrix()) for n, one in unbiased.items()}
        for n, hsics in biased.items():
            mean = torch.stack(hsics).mean(dim=0)
            own = mean.diagonal().sqrt()
            tensors[f"biased {n}"] = mean / own[:, None] / own[None, :]
        return tensors

    kept = store.cache("block_structure", described, compute)
    return {(kind, n): float(off_diagonal_mean(np.asarray(kept[f"{kind} {n}"]))) for kind in ("biased", "unbiased") for n in used}


def _centred(gram: Tensor) -> Tensor:
    rest = gram - gram.mean(dim=0)
    return rest - rest.mean(dim=1, keepdim=True)
