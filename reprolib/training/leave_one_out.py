"""Networks that never saw a class: trained one after the other, shared between processes, kept as the soft labels they give to it.

Of a network without a class only its answers stay: log-probabilities of the first test images of that class, in fp16, and three
numbers that need more than these. The full network stays with its card. When all of a point's networks are there, one file holds them.
Protocol: Kotyan et al. 2022 (arXiv 1906.06627). Stacking the networks into one does not pay on a CPU (measured: no faster).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from reprolib import data, scales, store
from reprolib.data import Images
from reprolib.errors import BadInput, MissingData
from reprolib.measures import raw_zero_shot
from reprolib.models.layers import eval_mode, features
from reprolib.models.networks import CAPSULES, Network, build, weights_sha256
from reprolib.training import pool, zoo
from reprolib.training.loop import estimate_batch_norm, train
from reprolib.training.points import Point, networks, point_of, points
from reprolib.training.recipes import recipe
from reprolib.training.specs import snapshot_folder, state_path

Report = Callable[[str], None]

MODULE = "reprolib.training.leave_one_out"
LEAST = -60_000.0  # of a log-probability: fp16 ends at -65,504


@dataclass(frozen=True)
class SoftLabels:
    """What a point left: log-probabilities of the same test images, n a class, by the full network and by those without their class.

    full: (N, n, N), without: (N, n, N - 1), float32, of capsules logarithms of lengths, not normalised; of class k by the networks
    full and without[k], which counts the other classes in their order. card: of the full network. networks: of each network without a
    class its sha256, its accuracy on the classes it knows, its seconds of training, "dbi" (Davies-Bouldin index of its soft labels
    over all classes) and "features" (scatter of R(x) on the class, over the mean norm), None where undefined.
    """

    full: Tensor
    without: Tensor
    card: dict[str, Any]
    networks: list[dict[str, Any]]


def soft_labels(point: Point) -> SoftLabels:
    """The soft labels of a point. Raises MissingData where not all of its networks are trained, CorruptFile for a damaged file."""
    if not bring_together(point):
        raise MissingData(
            f"soft labels of {point.full.name} at scale {point.scale} are not in {store.shown(point.file.parent)}; train its networks with "
            f"`reprolib train --scale {point.scale} --only {point.full.name}`"
        )
    tensors, told = store.read_safetensors(point.file)
    return SoftLabels(tensors["full"].float(), tensors["without"].float(), json.loads(told["card"]), json.loads(told["networks"]))


def furthest(point: Point, labels: SoftLabels, device: str = "cpu", k: int = 0) -> float | None:
    """How far probabilities that a point's full network gives to class k today lie from those kept of it, at most; None without network or images.

    The networks without a class are not kept: of them nothing can be measured again.
    """
    if not point.full.path.exists() or not any(row["found"] for row in data.status() if row["name"] == point.dataset):
        return None
    now = _log_probabilities(zoo.load(point.full, device), _asked(point, k, device))
    return float((now.float().exp() - labels.full[k].exp()).abs().max())


def obtain(point: Point, device: str, report: Report, wait: bool = True) -> bool:
    """Train one network of a point and keep what stays of it, unless another process does or did; whether it is there afterwards.

    wait: whether to wait for another process that is training it. See `zoo.obtain`.
    """
    if point.excluded is None:
        is_there = zoo.obtain(point, device, report, wait)
    else:
        is_there = point.path.exists()
        try:
            with store.lock(point.path, timeout_s=-1 if wait else 0):
                is_there = point.path.exists() or _train_without(point, device, report)
        except TimeoutError:
            return False
    return is_there and (bring_together(point) or True)


def bring_together(point: Point) -> bool:
    """Write the point's one file if all of its networks are there; whether the file is."""
    full, parts = point.full, point.without()
    if full.file.exists():
        return True
    if not all(one.path.exists() for one in (full, *parts)):
        return False
    with store.lock(full.file):
        if not full.file.exists():
            kept = [store.read_safetensors(one.path) for one in parts]
            net = zoo.load(full)
            answers = torch.stack([_log_probabilities(net, _asked(point, k, "cpu")) for k in range(len(parts))])
            told = {"key": full.key, "card": json.dumps(net.card), "networks": json.dumps([json.loads(one["told"]) for _, one in kept])}
            store.write_safetensors(full.file, {"full": answers, "without": torch.stack([one["labels"] for one, _ in kept])}, told)
    return True


def train_points(
    scale: str, jobs: int = 1, only: Sequence[str] = (), device: str = "cpu", report: Report = print, ends: float = math.inf
) -> None:
    """Train what is missing of a scale's points: all full networks first, then those without a class. See `pool.train_specs`.

    Points whose data set is not here wait for it, with a line that says so. Raises ReprolibError when networks failed.
    """
    wanted = [point for point in _chosen(scale, only) if not point.file.exists()]
    absent = {row["name"]: row["how"] for row in data.status() if not row["found"]}
    for name in dict.fromkeys(point.dataset for point in wanted if point.dataset in absent):
        report(f"{name} is not here, {sum(point.dataset == name for point in wanted)} points wait for it: {absent[name]}")
    wanted = [point for point in wanted if point.dataset not in absent]
    if wanted:
        report(totals(scale, only, jobs, device))
        pool.train_specs([*_twins(wanted), *networks(wanted)], jobs, device, report, ends, obtain, MODULE)
        for point in wanted:
            bring_together(point)


def _twins(wanted: Sequence[Point]) -> list[Point]:
    """The full standard networks that the cards of robust ones are checked against, where they are neither here nor asked for."""
    twins = dict.fromkeys(point.arms()[0] for point in wanted if point.recipe == point.setting.robust)
    return [twin for twin in twins if twin not in wanted and not twin.path.exists()]


def list_points(scale: str, only: Sequence[str] = ()) -> pd.DataFrame:
    """What exists of a scale's points, one row a point: point, state, clean and adversarial accuracy of the full network, minutes, check.

    minutes: of training all its networks (the table's, marked ~, where they are not all there). check: see `pool.list_pool`.
    """
    rows = []
    for point in _chosen(scale, only):
        found = soft_labels(point) if point.file.exists() else None
        card = found.card if found else zoo.card_of(point)
        seconds = card["training"]["seconds"] + sum(one["seconds"] for one in found.networks) if found and card else 0.0
        check = (card or {}).get("manipulation")
        rows.append(
            {
                "point": point.name,
                "state": _state(point),
                "clean": card["clean"]["value"] if card else math.nan,
                "adversarial": card["adversarial"][0]["value"] if card else math.nan,
                "minutes": f"{seconds / 60:.1f}" if found else f"~{point.minutes * len(networks([point])):g}",
                "check": f"{100 * check['difference']:+.0f} points" + ("" if check["holds"] else ": fails") if check else "",
            }
        )
    return pd.DataFrame(rows)


def totals(scale: str, only: Sequence[str] = (), jobs: int = 1, device: str = "cpu") -> str:
    """One line: how many points are there, how many networks are missing of the others, and how long they take, `jobs` at a time."""
    chosen = _chosen(scale, only)
    unfinished = [point for point in chosen if not point.file.exists() and not zoo.not_applicable(point)]
    missing = [one for one in networks(unfinished) if not one.path.exists()]
    minutes = pool.pace(scale, device)[0] * sum(one.minutes for one in missing) / jobs
    left = f", {len(missing)} networks missing: about {math.ceil(minutes)} min left, {jobs} at a time" if missing else ""
    return f"{sum(point.file.exists() for point in chosen)} of {len(chosen)} points without a class there{left}"


def bring_in(scale: str, shipped: Path) -> None:
    """Copy the soft labels of a scale that lie beside another zoo, where they are missing here."""
    for point in points(scale):
        source = shipped.parent / "soft_labels" / scale / point.file.name
        if source.exists() and not point.file.exists():
            store.write_bytes(point.file, source.read_bytes())


def _chosen(scale: str, only: Sequence[str]) -> list[Point]:
    for pattern in only:
        if not points(scale, [pattern]):
            raise BadInput(f"--only {pattern!r} matches no point of scale {scale}; allowed: {', '.join(one.name for one in points(scale))}")
    return points(scale, only)


def _state(point: Point) -> str:
    if point.file.exists():
        return "there"
    if zoo.not_applicable(point):
        return "not applicable"
    n, full = sum(one.path.exists() for one in point.without()), point.path.exists()
    return f"{'full, ' if full else ''}{n} of {point.setting.n_classes}" if n or full else "missing"


def _train_without(point: Point, device: str, report: Report) -> bool:
    """Train a network that lacks a class, and keep its answers. False where there is none to be: a matched control without its choice."""
    how, sets = recipe(point.recipe), _sets(point.dataset)
    net = _fresh(point, sets[0]).to(device)
    told: dict[str, Any] = {"seconds": 0.0, "precision": "fp32"}
    standard = dataclasses.replace(point, recipe="std")
    if how.matched:
        card = zoo.card_of(point.full)
        if card is None:
            return False
        state = snapshot_folder(standard) / f"{card['matching']['epoch']:07.3f}.safetensors"
        if not state.exists():
            with store.lock(standard.path):
                told = _train(standard, _fresh(point, sets[0]).to(device), sets[0], report)
                state_path(standard).unlink(missing_ok=True)
        tensors, _ = store.read_safetensors(state)
        net.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
    elif how.trained:
        report(f"{point.name}: training without class {point.excluded} ({sets[0].classes[point.excluded or 0]})")
        told = _train(point, net, sets[0], report)
    else:
        estimate_batch_norm(net, _training_images(point, sets[0])[0][:4096].to(device))
    net.eval()
    labels, measured = _answers(net, point, device)
    measured |= {"seconds": told["seconds"], "precision": told["precision"]}
    store.write_safetensors(point.path, {"labels": labels}, {"key": point.key, "told": json.dumps(measured)})
    state_path(point).unlink(missing_ok=True)
    for past in snapshot_folder(standard).glob("*.safetensors") if how.matched else ():  # they served this one
        past.unlink()
    report(f"{point.name}: kept; accuracy {measured['accuracy']:.1%} on the classes it knows, {told['seconds'] / 60:.1f} min")
    return True


def _train(point: Point, net: Network, training: Images, report: Report) -> dict[str, Any]:
    preset, device = scales.scale(point.scale), next(net.parameters()).device
    x, y = (part.to(device) for part in _training_images(point, training))
    snapshots = (snapshot_folder(point), point.snapshots_per_epoch) if point.snapshots_per_epoch else None
    return train(
        net, x, y, recipe(point.recipe), point.schedule, point.seed, (preset.norm, preset.eps), state_path(point), snapshots,
        lambda line: report(f"{point.name}: {line}"),
    )  # fmt: skip


def _answers(net: Network, point: Point, device: str) -> tuple[Tensor, dict[str, Any]]:
    """Soft labels (n, N - 1) of the class that `net` lacks, as kept, and what else is measured while the network is at hand."""
    k, n_classes = point.excluded, point.setting.n_classes
    assert k is not None
    own = _log_probabilities(net, _asked(point, k, device))
    others = [_log_probabilities(net, _asked(point, c, device)) for c in range(n_classes) if c != k]
    right = [float((given.argmax(dim=1) == c).double().mean()) for c, given in enumerate(others)]
    q = torch.cat([own, *others]).float().softmax(dim=1)
    cluster = torch.arange(n_classes).repeat_interleave(torch.tensor([len(own), *map(len, others)]))
    with torch.no_grad():
        code = features(net, _asked(point, k, device), ["pooled"])["pooled"]
    measured = {
        "excluded": k,
        "sha256": weights_sha256(net),
        "accuracy": sum(right) / len(right),
        "dbi": _or_none(raw_zero_shot.dbi, q, cluster),
        "features": _or_none(raw_zero_shot.davies_bouldin_metric_normalised, code),
    }
    return own, measured


def _or_none(measure: Callable[..., float], *given: Tensor) -> float | None:
    try:
        return measure(*given)
    except BadInput:  # a network that gives all images one output has neither
        return None


def _log_probabilities(net: Network, x: Tensor) -> Tensor:
    """Log-probabilities (n, classes) of images x (n, c, h, w) in [0, 1] as they are kept: fp16, on the CPU; of capsules log-lengths."""
    with torch.no_grad(), eval_mode(net):
        z = torch.cat([net(part) for part in x.split(500)])
    z = z if net.architecture == CAPSULES else z.log_softmax(dim=1)
    return z.clamp(min=LEAST).half().cpu()


def _asked(point: Point, k: int, device: str) -> Tensor:
    """The test images of class k that networks are asked about: the first ones, floats in [0, 1]."""
    test = _sets(point.dataset)[1]
    chosen = (test.y == k).nonzero().flatten()[: point.setting.n_asked]
    return test.x[chosen].to(device).float() / 255


def _training_images(point: Point, training: Images) -> tuple[Tensor, Tensor]:
    """The scale's training images without the excluded class's, and labels as a network without it counts them."""
    assert point.excluded is not None
    x, y = training.x[: point.schedule.n_images], training.y[: point.schedule.n_images]
    kept = y != point.excluded
    return x[kept], raw_zero_shot.shifted(y[kept], point.excluded)


def _fresh(point: Point, training: Images) -> Network:
    return build(point.architecture, len(training.classes) - 1, *data.normaliser(point.dataset), point.seed, training.x.shape[-1])


@functools.lru_cache(maxsize=1)
def _sets(dataset: str) -> tuple[Images, Images]:
    return data.load(dataset, "train"), data.load(dataset, "test")


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(pool.main_of_a_worker(sys.argv[1:], point_of, obtain))
