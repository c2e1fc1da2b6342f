"""What every network is asked to invert, the inversions, and the judges that look at them.

Every network inverts the codes of the same targets from the same starts. Source: Engstrom et al. 2019 (arXiv 1906.00945).
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from reprolib import store
from reprolib.data import Images
from reprolib.errors import BadInput
from reprolib.measures import perceptual
from reprolib.models.layers import LAST, features, fold_batch_norm, movable, movable_key, representation
from reprolib.models.networks import Network, weights_sha256
from reprolib.perturb.attacks import predictions
from reprolib.perturb.inversion import Code, CodeDistance, Inversion, follow, noise_start

TAUS = (0.5, 0.35, 0.2, 0.1, 0.05)
FIRST_TEST_IMAGES = 2000
N_TYPICAL = 512
EVERY = 10
CHUNK = 96
"""Images a pass on a CPU, which changes no bit of the results. Joining more brings nothing there: passes of 192 cost 1.08 times those of 64 an
image (W8, 32 px, one core of an AVX512 server, torch 2.15.0, median of 5 runs; 48 and 96 lie within 4 %), but a remainder of 8 costs 1.7 times as
much an image. The channels_last format takes .8 of the time."""
GPU_CHUNK = 1024
EYES_CHUNK = 250
LIKENESS = (perceptual.ssim, perceptual.pixel_correlation, perceptual.edge_correlation, perceptual.lowpass_mse)
"""Distances of pictures that ask no network."""


@dataclass(frozen=True)
class Task:
    """What every network has to do: n targets, and where the search for their inverses starts.

    targets: (n, 3, h, w) in [0, 1]; y: their classes (n,); ids: their places in the test set. starts: name -> images
    (n, 3, h, w), noise ones first; start_y: classes of the "image" starts, all different from y. typical: test images that
    set each network's unit of distance. data_sha256: of the set (or sets) that targets, starts and typical images are from.
    objective: of codes and codes wanted, what the search lowers; inverses are compared at equal d_rel whatever it is.
    """

    targets: Tensor
    y: Tensor
    ids: list[int]
    starts: dict[str, Tensor]
    start_y: Tensor
    typical: Tensor
    data_sha256: str
    objective: CodeDistance = perceptual.relative_distance

    def first(self, n: int) -> Task:
        """The same task with its first n targets alone."""
        starts = {name: start[:n] for name, start in self.starts.items()}
        return replace(self, targets=self.targets[:n], y=self.y[:n], ids=self.ids[:n], starts=starts, start_y=self.start_y[:n])


def make_task(images: Images, n_targets: int, n_noise: int, device: str = "cpu", n_grey: int = 0) -> Task:
    """Targets in turn from every class of the first test images; starts: `n_noise` noise images, one image of another class, grey if asked for.

    n_grey: 0, or 1 for a start "grey" of .5 everywhere. Raises BadInput for more targets than the images serve.
    """
    x, y = images.x[:FIRST_TEST_IMAGES], images.y[:FIRST_TEST_IMAGES]
    k = len(images.classes)
    queues = [(y == c).nonzero().flatten().tolist() for c in range(k)]
    most = min(map(len, queues)) * k // 2
    if n_targets > most:
        raise BadInput(
            f"n_targets={n_targets} is not allowed: targets and starts come from the first {len(y)} test images; allowed: up to {most}"
        )
    ids = in_turn(y, n_targets)
    # the start of target i comes from the class `1 + i // K` further on (never its own), from the far end of that class
    other = [(i + 1 + (i // k) % (k - 1)) % k for i in range(n_targets)]
    starts_ids = [queues[c][-1 - i // k] for i, c in enumerate(other)]
    targets = x[ids].float().to(device) / 255
    starts = {f"noise_{s}": noise_start(targets.shape, seed=s).to(device) for s in range(n_noise)}
    starts["image"] = x[starts_ids].float().to(device) / 255
    if n_grey:
        starts["grey"] = torch.full_like(targets, 0.5)
    return Task(targets, y[ids].to(device), ids, starts, y[starts_ids].to(device), x[:N_TYPICAL].float().to(device) / 255, images.sha256)


def in_turn(y: Tensor, n: int) -> list[int]:
    """Places of n images, one from every class of the labels y (m,) in turn; classes that have run out are passed over."""
    seen: Counter[int] = Counter()
    keys = []
    for place, label in enumerate(y.tolist()):
        keys.append((seen[label], label, place))
        seen[label] += 1
    return [place for _, _, place in sorted(keys)[:n]]


@dataclass(frozen=True)
class Inverted:
    """One network's inversions of a task: per start an `Inversion` whose thresholds and distances are in d_rel."""

    role: str
    network: Network
    unit: float
    runs: dict[str, Inversion]


def invert_task(
    role: str,
    network: Network,
    task: Task,
    steps: int,
    step: float,
    pool: int,
    starts: Sequence[str],
    report: Callable[[str], None] = lambda line: None,
    taus: Sequence[float] = TAUS,
) -> Inverted:
    """Invert the targets from the named starts; measured once, then read from the cache.

    pool: the code is the last map averaged to pool x pool positions. BatchNorm is folded (the same function); fp32.
    """
    moving = functools.cache(functools.partial(movable, network))  # copied only where something is measured

    def code(x: Tensor) -> Tensor:
        return representation(moving(), x, pool, straight_through=True)

    line = f"{network.card['name']}: inverting {len(task.ids)} targets from {len(starts)} starts, {steps} steps, {pool} x {pool} code"
    described = {"network": movable_key(network), "pool": pool}
    unit, runs = invert_code(code, described, task, steps, step, starts, lambda: report(line), taus)
    return Inverted(role, network, unit, runs)


def invert_code(
    code: Code,
    described: Mapping[str, Any],
    task: Task,
    steps: int,
    step: float,
    starts: Sequence[str],
    announce: Callable[[], None] = lambda: None,
    taus: Sequence[float] = TAUS,
) -> tuple[float, dict[str, Inversion]]:
    """The median d_rep of random image pairs under any code, and its inversions of the targets, per start, in d_rel.

    described: plain JSON that identifies the code, for the cache. announce: called when there is something to measure.
    """
    described = {
        "data": task.data_sha256, "targets": task.ids,
        "steps": steps, "step": step, "starts": list(starts), "taus": list(taus),
    } | dict(described)  # fmt: skip
    n, device, objective = len(task.ids), task.targets.device, task.objective
    chunk = chunk_of(device)

    def compute() -> dict[str, Tensor]:
        announce()
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            unit = distance_unit(in_chunks(code, task.typical))
            wanted = in_chunks(code, task.targets).repeat(len(starts), 1)
        joined = _fast(torch.cat([task.starts[s] for s in starts]))
        parts = [
            follow(code, wanted[i : i + chunk], joined[i : i + chunk], steps, step, [tau * unit for tau in taus], EVERY, True, objective)
            for i in range(0, len(joined), chunk)
        ]
        tensors: dict[str, Tensor] = {"unit": torch.tensor(unit)}
        for tau in taus:
            tensors[f"reached@{tau}"] = torch.cat([p.reached[tau * unit] for p in parts])
            tensors[f"at@{tau}"] = torch.cat([p.at[tau * unit] for p in parts])
            tensors[f"at_distance@{tau}"] = torch.cat([p.at_distance[tau * unit] for p in parts]) / unit
        tensors["x"] = torch.cat([p.x for p in parts])
        tensors["distance"] = torch.cat([p.distance for p in parts]) / unit
        tensors["steps"] = torch.tensor(parts[0].steps)
        tensors["trajectory"] = torch.cat([p.trajectory for p in parts], dim=1) / unit
        tensors["frames"] = torch.cat([p.frames for p in parts], dim=1)
        tensors["zero_gradient"] = torch.cat([p.zero_gradient for p in parts])
        # as the cache gives them back: what is computed from them must not depend on whether they were read
        return {name: tensor.contiguous() for name, tensor in tensors.items()}

    kept = {name: tensor.to(device) for name, tensor in store.cache("invertibility", described, compute).items()}
    runs = {}
    for i, start in enumerate(starts):
        part = slice(i * n, (i + 1) * n)
        runs[start] = Inversion(
            kept["x"][part], kept["distance"][part],
            {tau: kept[f"reached@{tau}"][part] for tau in taus}, {tau: kept[f"at@{tau}"][part] for tau in taus},
            {tau: kept[f"at_distance@{tau}"][part] for tau in taus}, kept["steps"].tolist(),
            kept["trajectory"][:, part].cpu(), kept["frames"][:, part].cpu(), kept["zero_gradient"][part],
        )  # fmt: skip
    return float(kept["unit"]), runs


def chunk_of(device: torch.device) -> int:
    """Images a pass."""
    return CHUNK if device.type == "cpu" else GPU_CHUNK


def in_chunks(code: Code, x: Tensor) -> Tensor:
    """The codes (n, d) of images, as many a pass as `chunk_of` says."""
    return torch.cat([code(part) for part in x.split(chunk_of(x.device))])


def distance_unit(codes: Tensor) -> float:
    """The median d_rep of random pairs of codes (n, d), in units of which d_rel is told."""
    return perceptual.random_pair_median(codes, generator=torch.Generator().manual_seed(0))


class Eyes:
    """The judges' view: distances of pictures under a standard and a robust network that are never inverted.

    What was seen is kept in the measurement cache, under the judge's weights and the pictures themselves.
    """

    def __init__(self, judges: Mapping[str, Network]) -> None:
        self.sha256 = {kind: weights_sha256(judge) for kind, judge in judges.items()}
        self.judges = {kind: fold_batch_norm(judge).to(memory_format=torch.channels_last) for kind, judge in judges.items()}

    def distance(self, kind: str, a: Tensor, b: Tensor) -> Tensor:
        """Perceptual distance (n,) of images a and b (n, 3, h, w) over all post-activation maps of the judge `kind`."""
        judge = self.judges[kind]

        def compute() -> dict[str, Tensor]:
            parts = []
            with torch.no_grad():
                for pair in zip(a.split(EYES_CHUNK), b.split(EYES_CHUNK), strict=True):
                    one, other = (list(features(judge, _fast(images), judge.layer_names).values()) for images in pair)
                    parts.append(perceptual.perceptual_distance(one, other))
            return {"distance": torch.cat(parts)}

        described = {"judge": self.sha256[kind], "a": sha256_of(a), "b": sha256_of(b)}
        return store.cache("judged", described, compute)["distance"].to(a.device)

    def ratio(self, kind: str, x: Tensor, task: Task, start: str) -> Tensor:
        """The distance (n,) of images to the targets of a task, in units of that of the named start."""
        return self.distance(kind, x, task.targets) / self.distance(kind, task.starts[start], task.targets)

    def probabilities(self, kind: str, x: Tensor) -> Tensor:
        """The judge's class probabilities (n, n_classes), in double precision: a sure judge's single-precision values would tie at 1."""
        judge = self.judges[kind]

        def compute() -> dict[str, Tensor]:
            with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
                parts = [judge(_fast(part)) for part in x.split(EYES_CHUNK)]
            return {"probabilities": torch.cat(parts).double().softmax(dim=1)}

        described = {"judge": self.sha256[kind], "probabilities": sha256_of(x)}
        return store.cache("judged", described, compute)["probabilities"].to(x.device)

    def classes(self, kind: str, x: Tensor) -> Tensor:
        """The judge's predictions (n,)."""
        described = {"judge": self.sha256[kind], "x": sha256_of(x)}
        return store.cache("judged", described, lambda: {"classes": predictions(self.judges[kind], _fast(x))})["classes"].to(x.device)


def likeness(a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """Values (n,) of `LIKENESS`, by name, for images a and b (n, 3, h, w); measured once, then read from the cache."""
    names = [measure.__name__ for measure in LIKENESS]
    described = {"measures": names, "a": sha256_of(a), "b": sha256_of(b)}
    kept = store.cache("likeness", described, lambda: {measure.__name__: measure(a, b) for measure in LIKENESS})
    return {name: kept[name].to(a.device) for name in names}


def inverses_at(run: Inversion, tau: float) -> Tensor:
    """The inverses (n, 3, h, w) at tau, the last iterate where it was not reached."""
    return torch.where(run.reached[tau].view(-1, 1, 1, 1), run.at[tau], run.x)


def ratios(images: Tensor, task: Task, eyes: Eyes, n: int) -> Tensor:
    """Distance ratio (steps, n) of uint8 frames (steps, n, 3, h, w) from `noise_0`."""
    targets = task.targets[:n]
    start = eyes.distance("standard", task.starts["noise_0"][:n], targets)
    flat = images.flatten(0, 1).to(targets.device).float() / 255
    return eyes.distance("standard", flat, targets.repeat(len(images), 1, 1, 1)).view(len(images), n) / start


def last_map_px(network: Network, image_px: int) -> int:
    """The side in pixels of the last map of a network, for images of `image_px` pixels a side."""
    with torch.no_grad():
        blank = torch.zeros(1, 3, image_px, image_px, device=next(network.parameters()).device)
        return features(network, blank, [LAST])[LAST].shape[-1]


def sha256_of(images: Tensor) -> str:
    """The sha256 over the bytes of a tensor's values, in their order."""
    return hashlib.sha256(images.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def to_bytes(x: Tensor) -> Tensor:
    """Images in [0, 1] as uint8, on the CPU, as pictures are kept."""
    return (x * 255).round().to(torch.uint8).cpu()


def _fast(images: Tensor) -> Tensor:
    """The images in the memory format in which small networks run twice as fast on CPUs."""
    return images.contiguous(memory_format=torch.channels_last)
