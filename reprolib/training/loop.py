"""One training loop for every recipe, resumable bit for bit from its last finished epoch.

Nothing is drawn from a global generator: the order, crops and flips of epoch e depend on (seed, e) alone, the inner
attack's random starts on (seed, e) too, the learning rate on the step. So a state of weights, momentum and epoch is all
that a resumed run needs, and both arms of a comparison see the same images in the same order.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from reprolib import store
from reprolib.data.batches import Batches
from reprolib.errors import BadInput, CorruptFile, nearest
from reprolib.models.networks import Network
from reprolib.perturb.attacks import adversarial_accuracy, predictions, training_examples
from reprolib.scales import Schedule
from reprolib.training.objective import Objective
from reprolib.training.recipes import Recipe

N_PROBE = 256
"""Training images on which accuracies are measured after each epoch (never used to select anything)."""


def learning_rate(step: int, n_steps: int, schedule: Schedule) -> float:
    """One-cycle: linear from peak/25 to the peak over the warm-up, then linear to zero. Source: Smith 2018 (arXiv 1803.09820)."""
    rise = max(1, int(schedule.warm_up * n_steps))
    if step < rise:
        return schedule.peak_lr * (1 / 25 + (1 - 1 / 25) * step / rise)
    return schedule.peak_lr * (n_steps - step) / (n_steps - rise)


def radius_share(step: int, n_steps: int, schedule: Schedule) -> float:
    """The share of a recipe's eps used at a step: linear from zero to one over the ramp, then one."""
    ramp = schedule.eps_ramp * n_steps
    return 1.0 if step >= ramp else step / ramp


def train(
    network: Network,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    schedule: Schedule,
    seed: int,
    probe_ball: tuple[str, float],
    state: Path | None = None,
    snapshots: tuple[Path, int] | None = None,
    report: Callable[[str], None] = lambda line: None,
    precision: str | None = None,
) -> dict[str, Any]:
    """Train `network` in place on uint8 images x (n, c, h, w) with labels y (n,); return what its card tells of training.

    probe_ball: (norm, eps) of the attack shown in the progress. state: file from which an interrupted run resumes, and
    which is written after each epoch. snapshots: (folder, states kept per epoch). precision: "bf16" or "fp32"; chosen by
    `choose_precision` when None. report: told of each epoch that is kept; what it raises ends the training there, to be resumed.
    Returns {"history": [...], "seconds", "precision", "resumed": times}.
    """
    device = next(network.parameters()).device
    network.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(
        network.parameters(), lr=schedule.peak_lr, momentum=schedule.momentum, weight_decay=schedule.weight_decay, nesterov=True
    )
    resumed = _resume(network, optimiser, state)
    precision = resumed["precision"] if resumed else (precision or choose_precision(device))
    history: list[dict[str, Any]] = list(resumed["history"]) if resumed else []
    n_resumed = resumed["resumed"] + 1 if resumed else 0
    batches = Batches(x, y, schedule.batch_size, schedule.pad_px, schedule.flip)
    n_steps = schedule.epochs * len(batches)
    probe_x, probe_y = x[-N_PROBE:].float() / 255, y[-N_PROBE:]
    seconds = sum(past["seconds"] for past in history)
    for epoch in range(len(history), schedule.epochs):
        began = time.monotonic()
        data_generator, attack_generator = _generator(seed, epoch, 0), _generator(seed, epoch, 1)
        objective = Objective(recipe, precision, epoch + 1)
        total, count = 0.0, 0
        for i, (images, labels) in enumerate(batches.epoch(data_generator)):
            images = images.to(memory_format=torch.channels_last)
            images = recipe.alter(images, attack_generator)
            step = epoch * len(batches) + i
            if recipe.norm is not None:
                grown = radius_share(step, n_steps, schedule)
                images = training_examples(
                    network, images, labels, recipe.norm, grown * recipe.eps, grown * recipe.attack_step(schedule.attack_steps), schedule.attack_steps,
                    recipe.random_start, attack_generator, precision,
                )  # fmt: skip
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, n_steps, schedule)
            loss = objective(network, images, labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            total, count = total + loss.item() * len(labels), count + len(labels)
            if snapshots is not None:
                _snapshot(network, snapshots, epoch, i, len(batches))
        if total != total:
            raise FloatingPointError(f"the training loss is not a number in epoch {epoch + 1}: lower peak_lr={schedule.peak_lr}")
        clean = (predictions(network, probe_x) == probe_y).float().mean().item()
        adversarial = adversarial_accuracy(network, probe_x, probe_y, *probe_ball, steps=10, restarts=1, precision=precision).value
        spent = time.monotonic() - began
        seconds += spent
        left = round(spent * (schedule.epochs - epoch - 1))
        history.append(
            {"epoch": epoch + 1, "loss": round(total / count, 5), "clean": clean, "adversarial": adversarial, "seconds": round(spent, 2)}
            | objective.told()
        )
        if state is not None:
            _save(network, optimiser, state, {"history": history, "precision": precision, "resumed": n_resumed})
        report(
            f"epoch {epoch + 1:>2}/{schedule.epochs}  loss {total / count:.3f}  accuracy {clean:6.1%}  "
            f"under PGD-10 {adversarial:6.1%}  {left // 60}:{left % 60:02d} left"
        )
    network.eval()
    return {"history": history, "seconds": round(seconds, 1), "precision": precision, "resumed": n_resumed}


def estimate_batch_norm(network: Network, x: Tensor, batch_size: int = 128) -> None:
    """Set the BatchNorm statistics of an untrained network to those of uint8 images x (n, c, h, w): plain averages over batches."""
    update_bn((part.float() / 255 for part in x.split(batch_size)), network)
    network.eval()


def choose_precision(device: torch.device) -> str:
    """ "bf16" where the processor multiplies in it (a GPU; a CPU with AMX or AVX512-BF16), else "fp32".

    Measured 2 to 3 times faster; on an Intel with AVX512-BF16 alone, its AMX masked, no faster (.7 to 1.0 times the speed).

    `$REPROLIB_PRECISION` replaces the choice by "bf16" or "fp32" ("auto" leaves it). Told by instructions and not by a
    stopwatch: a timed probe chose differently on a busy machine, and a training of its own that ends in other weights is no
    reproduction. A network's key does not hang on it; its card tells it.
    """
    asked = os.environ.get("REPROLIB_PRECISION", "auto")
    if asked not in ("auto", "bf16", "fp32"):
        raise BadInput(f"REPROLIB_PRECISION={asked} is none of auto, bf16, fp32{nearest(asked, ('auto', 'bf16', 'fp32'))}")
    if asked != "auto":
        return asked
    return "bf16" if device.type != "cpu" or _multiplies_in_bf16() else "fp32"


def _multiplies_in_bf16() -> bool:
    """Whether oneDNN, which multiplies for torch on a CPU, has bf16 instructions and may use them; else it would emulate bf16."""
    has: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # absent from torch before it could tell
    if not (has.get("amx_bf16") or has.get("avx512_bf16")):
        return False
    # These are the processor's instructions. oneDNN can be capped below them, and then its own answer is no; but to a cap at
    # AVX-512 without bf16 it says yes, and emulates.
    cap = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "")).upper()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and cap not in ("AVX512_CORE", "AVX512_CORE_VNNI")


def _generator(seed: int, epoch: int, stream: int) -> torch.Generator:
    return torch.Generator().manual_seed(((seed * 1_000 + epoch) * 2 + stream) * 7_919 + 17)


def _snapshot(network: Network, snapshots: tuple[Path, int], epoch: int, i: int, n_batches: int) -> None:
    folder, per_epoch = snapshots
    if (i + 1) * per_epoch // n_batches > i * per_epoch // n_batches:
        part = (i + 1) * per_epoch // n_batches
        tensors = {name: t.to(torch.bfloat16) if t.dim() > 1 else t for name, t in network.state_dict().items()}
        store.write_safetensors(folder / f"{epoch + part / per_epoch:07.3f}.safetensors", tensors)


def _save(network: Network, optimiser: torch.optim.Optimizer, path: Path, told: Mapping[str, Any]) -> None:
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        tensors[f"momentum.{name}"] = optimiser.state[parameter]["momentum_buffer"]
    store.write_safetensors(path, tensors, {"told": json.dumps(told)})


def _resume(network: Network, optimiser: torch.optim.Optimizer, path: Path | None) -> dict[str, Any] | None:
    if path is None or not path.exists():
        return None
    try:
        tensors, metadata = store.read_safetensors(path)
    except CorruptFile as error:
        print(f"{store.reason(error)}: the training begins again", file=sys.stderr, flush=True)
        return None
    network.load_state_dict({name.removeprefix("network."): t for name, t in tensors.items() if name.startswith("network.")})
    for name, parameter in network.named_parameters():
        momentum = tensors[f"momentum.{name}"].to(parameter.device)
        optimiser.state[parameter]["momentum_buffer"] = (
            momentum.contiguous(memory_format=torch.channels_last) if momentum.dim() == 4 else momentum
        )
    return json.loads(metadata["told"])
