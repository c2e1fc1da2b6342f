"""CKA of one network's layers: ours beside torch_cka, which computes every layer pair on its own; then ours on 10,000 images.

`make bench` installs the peer beside the environment and runs this. Both run in one process, on one thread, by turns; times
are seconds of the processor, medians. torch_cka runs its network twice (it takes two) and to the end, we run it once and no
further than needed.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import time
import warnings

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch_cka import CKA

from reprolib import data
from reprolib.errors import MissingData
from reprolib.models.grams import layer_set, minibatch_cka
from reprolib.training.zoo import network

N_LAYERS, N_IMAGES, REPEATS = 16, 256, 7
N_MANY, BATCH = 10_000, 250


def theirs(model: nn.Module, x: torch.Tensor, batch: int, layers: list[str]) -> np.ndarray:
    """The matrix of torch_cka; what it prints is of no use here."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        cka = CKA(model, model, model1_name="a", model2_name="b", model1_layers=layers, model2_layers=layers, device="cpu")
        cka.compare(DataLoader(TensorDataset(x, torch.zeros(len(x))), batch_size=batch))
        return cka.export()["CKA"].numpy()


def compare(which: str, kinds: tuple[type[nn.Module], ...], batch: int) -> None:
    """Print one line: both times, their ratio, and how far the two matrices are apart; kinds: of modules, the first 16 of them."""
    model = network("std", "net14", "cifar10", seed=0, scale="cifar").eval()
    layers = [name for name, module in model.named_modules() if isinstance(module, kinds)][:N_LAYERS]
    x = data.load("cifar10", "test").x[:N_IMAGES].float() / 255
    seconds: dict[str, list[float]] = {"theirs": [], "ours": []}
    for _ in range(REPEATS):
        start = time.process_time()
        there = theirs(model, x, batch, layers)
        middle = time.process_time()
        here = minibatch_cka(model, x.split(batch), layers=layers).matrix()
        seconds["theirs"].append(middle - start)
        seconds["ours"].append(time.process_time() - middle)
    slow, fast = (statistics.median(one) for one in seconds.values())
    print(
        f"net14, {len(layers)} x {len(layers)} layers ({which}), {N_IMAGES} images in batches of {batch}: torch_cka {slow:.2f} s, "
        f"reprolib {fast:.3f} s, {slow / fast:.1f} times faster; largest difference {np.abs(here - there).max():.1e}"
    )


def many() -> None:
    """Print how long all post-activation maps of a network take on the whole test set."""
    model = network("std", "net14", "cifar10", seed=0, scale="cifar")
    x = data.load("cifar10", "test").x[:N_MANY].float() / 255
    layers = layer_set(model)
    start = time.process_time()
    minibatch_cka(model, x.split(BATCH), layers=layers).matrix()
    print(f"net14, {len(layers)} x {len(layers)} layers, {len(x):,} images in batches of {BATCH}: {time.process_time() - start:.1f} s")


def main() -> None:
    torch.set_num_threads(1)
    try:
        for batch in (N_IMAGES, N_IMAGES // 4):
            compare("its first convolutions and BatchNorms", (nn.Conv2d, nn.BatchNorm2d), batch)
            compare("all convolutions and the linear layer", (nn.Conv2d, nn.Linear), batch)
        many()
    except MissingData as error:
        print(f"left out what needs CIFAR-10: {error}")


if __name__ == "__main__":
    main()
