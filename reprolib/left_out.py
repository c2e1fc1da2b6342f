"""What anybody's networks make of a class that they never saw: a frame with a row a class, and its picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor, nn

from reprolib.boundary import check_count, checked_labels, fitting, not_finite, own_state
from reprolib.errors import BadInput, nearest
from reprolib.front_end import Progress, is_wanted
from reprolib.measures import raw_zero_shot
from reprolib.models.layers import eval_mode
from reprolib.models.wrapped import device_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Build = Callable[[int], nn.Module]
Train = Callable[[nn.Module, Tensor, Tensor], nn.Module | None]

OUTPUTS = ("logits", "probabilities")
LEAST_IMAGES = 4  # test images of a class: confidence is matched on one half of them, and the metric taken on the other


class LeftOut(pd.DataFrame):
    """A row a class, of the network that never saw it, on that class's n test images.

    class, n; dbm: how tight its soft labels are (the Davies-Bouldin metric), dbm_matched: the same at the temperature where the mean entropy is
    3/4 of ln(N - 1) (nan where none gives it: tied outputs); am: how far they lie from what the full network gives to the other classes (the
    amalgam metric); lower is better of these. entropy: mean, in nats, at most ln(N - 1); confidence: mean largest probability. A network that
    learnt nothing has one output for all images, a dbm of 0 and an entropy near the largest: read no column without the others.
    off_class_mass: the median mass that the full network leaves to the other classes; is_below_floor: it is below 1e-4, so am hangs on traces.

    n_classes: N. without[k]: logits (n, N - 1) of class k by the network without it, full[k]: (n, N) by the full one, in float64 on the CPU.
    """

    _metadata = ["n_classes", "without", "full"]
    n_classes: int
    without: Mapping[int, Tensor]
    full: Mapping[int, Tensor]

    @property
    def _constructor(self) -> type[LeftOut]:
        return LeftOut

    def plot(self, beside: Mapping[str, LeftOut] | None = None) -> Figure:  # type: ignore[override]
        """Both metrics and the entropy, a dot a class; other networks' by name. Raises BadInput for those of another number of classes."""
        from reprolib.figures import own_network

        named = {"mine": self, **(beside or {})}
        for name, other in named.items():
            if not isinstance(other, LeftOut):
                raise BadInput(f"{name!r} is a {type(other).__name__}: give what `leave_one_out` gave of other networks, by name")
            if other.n_classes != self.n_classes:
                raise BadInput(f"{name!r} is of {other.n_classes} classes, mine of {self.n_classes}: give networks of the same classes")
        return own_network.left_out(named)


@own_state()
def leave_one_out(
    build: Build, train: Train, images: Tensor, labels: Tensor, test_images: Tensor | None = None, test_labels: Tensor | None = None,
    outputs: str = "logits", seed: int = 0, batch_size: int = 256,
) -> LeftOut:  # fmt: skip
    """Raw zero-shot: N networks trained without one of N classes each, and a full one, asked about the class that they lack; see `LeftOut`.

    build(n_classes): a fresh network with that many outputs. train(network, images, labels): trains it, in place or giving the network back;
    labels run from 0 to n_classes - 1, those above the class left out moved down by one. images: (n, c, h, w), floats as `build`'s network
    takes them; labels: (n,), 0 to N - 1. test_images, test_labels: what is asked about; absent, the training images, which the full network
    has learnt by heart, so that am compares little: give held-out ones. outputs: "logits", or "probabilities" of networks that end in a softmax.
    seed: of torch's generators (numpy's are the reader's), set before each `build`: networks start alike as far as their shapes are, and the
    caller's generator is handed back as it was. A line a network says how far the work is.
    Raises BadInput before any training for fewer than 3 classes, one without training images or with fewer than 4 test images, labels of another
    shape or dtype, images that are not finite, and a `build` that ignores the number of outputs or shares weights between networks; and, naming
    the class, for a network that is not finite once trained. Source: Kotyan et al. 2022 (arXiv 1906.06627).
    """
    _check_functions(build, train, outputs)
    check_count(batch_size, "batch_size")
    x, y, n_classes = _training_set(images, labels)
    asked_x, asked_y = _test_set(x, y, test_images, test_labels, n_classes)
    own = [asked_x[asked_y == k] for k in range(n_classes)]
    progress, total = Progress(is_wanted("auto")), n_classes + 1
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        _check_build(build, n_classes, x[:2], outputs, seed)
        progress.report("the full network", 0, total)
        network = _trained(build, train, n_classes, x.clone(), y.clone(), seed, "the full network")
        full = {k: _logits(network, own[k], n_classes, outputs, "the full network", batch_size) for k in range(n_classes)}
        without = {}
        for k in range(n_classes):
            who, kept = f"the network without class {k}", y != k
            progress.report(who, k + 1, total)
            network = _trained(build, train, n_classes - 1, x[kept], raw_zero_shot.shifted(y[kept], k), seed, who)
            without[k] = _logits(network, own[k], n_classes - 1, outputs, who, batch_size)
    frame = LeftOut([_row(k, without[k], full[k]) for k in range(n_classes)])
    frame.n_classes, frame.without, frame.full = n_classes, without, full
    return frame


def _row(k: int, z: Tensor, full: Tensor) -> dict[str, Any]:
    """The numbers of class k. z (n, N - 1), full (n, N): logits."""
    q, off_class = z.softmax(dim=1), float(raw_zero_shot.off_class_mass(full.softmax(dim=1), k).median())
    try:
        matched = raw_zero_shot.davies_bouldin_metric_matched(z).value
    except BadInput:  # tied outputs: no temperature gives the entropy
        matched = float("nan")
    return {
        "class": k,
        "n": len(z),
        "dbm": raw_zero_shot.davies_bouldin_metric_from_logits(z),
        "dbm_matched": matched,
        "am": raw_zero_shot.amalgam_metric_from_logits(z, full, k),
        "entropy": raw_zero_shot.mean_entropy(q),
        "confidence": float(q.amax(dim=1).mean()),
        "off_class_mass": off_class,
        "is_below_floor": off_class < raw_zero_shot.FLOOR,
    }


def _trained(build: Build, train: Train, n_outputs: int, x: Tensor, y: Tensor, seed: int, who: str) -> nn.Module:
    """A network that the reader's functions build and train. x, y are its own: `train` may write over them."""
    torch.manual_seed(seed)
    network = _built(build, n_outputs)
    given = train(network, x, y)
    if given is not None and not isinstance(given, nn.Module):
        raise BadInput(
            f"train gives a {type(given).__name__} for {who}: give the trained network back, or nothing where it trains in place"
        )
    network = network if given is None else given
    broken = next((name for name, parameter in network.named_parameters() if not bool(parameter.isfinite().all())), None)
    if broken is not None:
        raise BadInput(f"{who} has a parameter {broken} that is not finite after train: it diverged; try a smaller learning rate")
    return network


def _logits(network: nn.Module, x: Tensor, n_outputs: int, outputs: str, who: str, batch_size: int) -> Tensor:
    """Logits (n, n_outputs) of images x in eval mode, in float64 on the CPU; of probabilities their logarithms, of 0 the least there is."""
    device, parts = device_of(network), []
    with eval_mode(network), torch.no_grad():
        for part in x.split(batch_size):
            given = part.to(device, copy=True)  # a network may write over what it is given
            with fitting(network, given):
                found = network(given)
            if not isinstance(found, Tensor) or not found.is_floating_point() or found.ndim != 2 or len(found) != len(part):
                shape = f" of shape {tuple(found.shape)}" if isinstance(found, Tensor) else ""
                raise BadInput(
                    f"{who} gives a {type(found).__name__}{shape} for {len(part)} images: floats ({len(part)}, {n_outputs}) are needed; "
                    "`reprolib.wrap(..., logits=0)` in build takes them out of a tuple"
                )
            if found.shape[1] != n_outputs:
                raise BadInput(f"{who} has {found.shape[1]} outputs: {n_outputs} are needed, the number that build is given")
            parts.append(found.detach().cpu())
    z = torch.cat(parts)
    if unknown := not_finite(z):
        raise BadInput(f"{who} gives outputs that are not finite for images {unknown}: look at its weights and its training")
    is_distribution = bool((z >= 0).all()) and bool(((z.double().sum(dim=1) - 1).abs() < raw_zero_shot.SUM_TOLERANCE).all())
    if is_distribution != (outputs == "probabilities"):
        other = OUTPUTS[1 - OUTPUTS.index(outputs)]
        seen = "lie above 0 and sum to 1" if is_distribution else "are negative or do not sum to 1"
        raise BadInput(f'the outputs of {who} {seen}, and outputs="{outputs}" was said: say outputs="{other}"')
    return (z.clamp(min=torch.finfo(z.dtype).tiny).log() if is_distribution else z).double()


def _built(build: Build, n_outputs: int) -> nn.Module:
    network = build(n_outputs)
    if not isinstance(network, nn.Module):
        raise BadInput(f"build({n_outputs}) gives a {type(network).__name__}: give a network, a torch.nn.Module, back")
    return network


def _check_build(build: Build, n_classes: int, x: Tensor, outputs: str, seed: int) -> None:
    """Raise BadInput unless networks have as many outputs as asked for, and share no weights that are trained. x: two images."""
    made: list[nn.Module] = []
    for n_outputs in (n_classes, n_classes - 1, n_classes - 1):
        torch.manual_seed(seed)
        made.append(_built(build, n_outputs))
        _logits(made[-1], x, n_outputs, outputs, f"the network of build({n_outputs})", 2)
    weights = [id(parameter) for network in made for parameter in network.parameters() if parameter.requires_grad]
    if len({*weights}) < len(weights):
        raise BadInput(
            "networks that build gives share weights, so that one has seen what another was trained on: make all of them anew in every call"
        )


def _check_functions(build: object, train: object, outputs: str) -> None:
    for name, given, cure in (("build", build, "build(n_classes) -> network"), ("train", train, "train(network, images, labels)")):
        if isinstance(given, nn.Module) or not callable(given):
            raise BadInput(f"{name} is a {type(given).__name__}: give a function {cure}, since a network a class is made and trained")
    if outputs not in OUTPUTS:
        raise BadInput(f"outputs={outputs!r} is unknown; allowed: {', '.join(OUTPUTS)}{nearest(outputs, OUTPUTS)}")


def _training_set(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, int]:
    """Images and labels, checked, and how many classes there are."""
    x = _checked_images(images, "images")
    y = _checked_classes(labels, len(x), "labels").to(x.device)
    n_classes = int(y.max()) + 1
    if len(y.unique()) < 3:
        raise BadInput(
            f"labels name {len(y.unique())} classes: at least 3 are needed, since a network without one has to tell others apart"
        )
    if empty := (y.bincount(minlength=n_classes) == 0).nonzero().flatten().tolist():
        raise BadInput(f"no image is of class {empty[0]}, and labels go up to {n_classes - 1}: number the classes from 0 without gaps")
    return x, y, n_classes


def _test_set(x: Tensor, y: Tensor, images: Tensor | None, labels: Tensor | None, n_classes: int) -> tuple[Tensor, Tensor]:
    """The images that are asked about, and their labels: the training images x where none are given."""
    if (images is None) != (labels is None):
        given, absent = ("test_labels", "test_images") if images is None else ("test_images", "test_labels")
        raise BadInput(f"{given} are given and {absent} are not: give both, or neither to ask about the training images")
    if images is not None and labels is not None:
        shape, x = x.shape[1:], _checked_images(images, "test_images")
        if x.shape[1:] != shape:
            raise BadInput(f"test_images are of shape {tuple(x.shape[1:])}, the training images of {tuple(shape)}: give the same")
        y = _checked_classes(labels, len(x), "test_labels").to(x.device)
        if int(y.max()) >= n_classes:
            raise BadInput(f"test_labels name class {int(y.max())}: allowed are those of the training images, 0 to {n_classes - 1}")
    counts = y.bincount(minlength=n_classes)
    if int(counts.min()) < LEAST_IMAGES:
        what = "test images" if images is not None else "images, which stand for test images,"
        raise BadInput(
            f"class {int(counts.argmin())} has {int(counts.min())} {what}: at least {LEAST_IMAGES} are needed, since confidence is matched on "
            "one half of them and the metric taken on the other"
        )
    return x, y


def _checked_images(x: Tensor, name: str) -> Tensor:
    if not isinstance(x, Tensor) or x.ndim != 4 or not x.is_floating_point():
        given = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise BadInput(f"{name} are {given}: give a tensor of floats (n, c, h, w), as the network takes them")
    if not x.numel():
        raise BadInput(f"{name} of shape {tuple(x.shape)} are empty: give some of each class")
    if unknown := not_finite(x):
        raise BadInput(f"{name} {unknown} hold values that are not finite: look at what made them")
    return x.detach().clone() if x.is_inference() else x.detach()


def _checked_classes(y: Tensor, n: int, name: str) -> Tensor:
    y = checked_labels(y, n, name)
    if int(y.min()) < 0:
        raise BadInput(f"{name} name class {int(y.min())}: classes are numbered from 0")
    return y
