"""A linear baseline: how invertible is a code of the same size that is no network at all, the principal components of the pixels?

Shown beside the networks, no claim's control. A linear code fixes an image on its span and says nothing of the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.data import Images
from reprolib.findings.invertibility.inversions import Inversions, section
from reprolib.findings.invertibility.inverting import invert_code
from reprolib.findings.invertibility.tidying import Part, kind_of, run_rows

CLAIM = "baseline"
ROLE = "pca"
QUANTITIES = ("distance_ratio", "pixel_correlation", "recognised")
N_FITTED = 4000
"""Training images the components are fitted to: more than the 3,072 numbers of a 32 px image."""

IDENTITY = {"arm": ROLE, "recipe": ROLE, "architecture": "linear", "seed": 0, "network": ROLE}
"""Who was measured, in the rows."""

N_PICTURES = 6


@dataclass(frozen=True)
class Components:
    """Principal components of images of d pixel values: mean (d,), directions (d, k), orthonormal, the largest variance first.

    key: identifies the images they were fitted to, and k. share: of the images' variance that the components hold.
    """

    mean: Tensor
    directions: Tensor
    key: str
    share: float

    def code(self, x: Tensor) -> Tensor:
        """The code (n, k) of images x (n, c, h, w) in [0, 1]: their coordinates along the components."""
        return (x.flatten(1) - self.mean) @ self.directions


def principal_components(images: Images, k: int, device: str | torch.device = "cpu") -> Components:
    """The first k components of the first `N_FITTED` images' pixels in [0, 1]; fewer where the images have no more; fitted once, then cached."""
    described = {"data": images.sha256, "n_fitted": N_FITTED}

    def compute() -> dict[str, Tensor]:
        pixels = images.x[:N_FITTED].flatten(1).to(device).float() / 255
        mean = pixels.mean(dim=0)
        centred = pixels - mean
        variance, directions = torch.linalg.eigh(centred.T @ centred / (len(pixels) - 1))
        return {"mean": mean, "variance": variance.flip(0).clamp_min(0), "directions": directions.flip(1)}

    kept = {name: tensor.to(device) for name, tensor in store.cache("components", described, compute).items()}
    rank = min(k, len(kept["mean"]), min(N_FITTED, len(images)) - 1)
    share = float(kept["variance"][:rank].sum() / kept["variance"].sum())
    return Components(kept["mean"], kept["directions"][:, :rank], store.content_key({**described, "k": rank}), share)


@section
def of(inversions: Inversions) -> Part:
    """Rows under "baseline" of a code of as many principal components of the training images as the networks' codes have numbers, inverted as they are.

    Quantities: those of `QUANTITIES`, from every noise start at its deciding tau. pictures: targets and inverses (t, 3, h, w) from the
    first noise start, share (of variance).
    """
    study, (task, eyes), tau = inversions.study, inversions.measured, inversions.taus["noise"]
    if study.only_mine:
        return Part()
    n_features = next((network.n_features for networks in inversions.nets.values() for network in networks), 1)
    train, n_numbers = study.first_training_images(N_FITTED), n_features * study.settings["pool"] ** 2
    components = principal_components(train, n_numbers, task.targets.device)
    starts = [start for start in task.starts if kind_of(start) == "noise"]
    steps, step, size = study.settings["steps"], study.settings["step"], components.directions.shape[1]
    line = f"PCA of pixels: inverting {len(task.ids)} targets from {len(starts)} starts, {steps} steps, {size} numbers"
    described = {"components": components.key}
    _, runs = invert_code(components.code, described, task, steps, step, starts, lambda: study.report(line), inversions.measured_taus)
    rows = pd.DataFrame([one for start, run in runs.items() for one in run_rows(IDENTITY, start, run, task, eyes, tau)])
    rows = rows[rows["quantity"].isin(QUANTITIES)].assign(claim=CLAIM)
    inverses = runs[starts[0]].at[tau][:N_PICTURES]
    return Part(rows, {"targets": task.targets[:N_PICTURES], "inverses": inverses, "share": components.share})
