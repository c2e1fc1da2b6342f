"""Generators on a ring of eight Gaussians: are their samples entangled with the data, and how many modes do they hit?

Non-saturating GAN (Goodfellow et al. 2014, arXiv 1406.2661) with a penalty on the discriminator's gradient at real points (Mescheder
et al. 2018, arXiv 1801.04406, R1). The ring of eight modes at radius 2: Metz et al. 2017 (arXiv 1611.02163); samples within three
standard deviations of a mode: Srivastava et al. 2017 (arXiv 1705.07761). Seeds are a batch dimension: each has noise of its own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from reprolib import store
from reprolib.errors import BadInput
from reprolib.measures.soft_nearest_neighbor import minimised
from reprolib.study import Study

Question = Callable[[Tensor, Tensor], Mapping[str, Tensor]]
"""What is asked of a generator: samples and real points, (batches, n, 2) each -> {"real_fake": (batches,), "modes_hit": (), "share_within": ()}."""

CLAIM = "ENT-8"
N_MODES, RADIUS, SD = 8, 2.0, 0.05
MODES = RADIUS * torch.tensor([[math.cos(k * math.tau / N_MODES), math.sin(k * math.tau / N_MODES)] for k in range(N_MODES)])
"""(8, 2), the centres. Published rings have narrower modes (s.d. .02); at .05 healthy generators hit all eight within 1,500 steps."""
NEAR = 3 * SD  # from a mode: a sample within it belongs to the mode
HIT = 0.01  # share of the samples that must lie near a mode for it to count as hit

SEEDS = (0, 1, 2, 3, 4)
EVERY = 500  # steps between looks at the samples
N_BATCHES, BATCH = 20, 64
N_DRAWN = 100  # samples of a step that the figure shows

LATENT = 16
WIDTH = 64  # of the discriminator, which has two hidden layers
SLOPE = 0.2  # below 0, of its units
PENALTY = 0.1
BETAS = (0.5, 0.999)
N_ENTANGLED = 32  # real points, and as many samples, on which the term is taken
TERM_EVERY = 4  # steps: the term is taken in every fourth, four times as strong


@dataclass(frozen=True)
class Setting:
    """One way to train. depth, width: hidden layers of the generator, and their units. rate, d_rate: learning rates of generator and discriminator.

    alpha: weight of the loss of real against generated points, minimised over temperature, which the generator maximises.
    """

    depth: int = 2
    width: int = 64
    rate: float = 3e-3
    d_rate: float = 3e-3
    alpha: float = 0.0

    @property
    def architecture(self) -> str:
        """Of the generator: "mlp_2x64"."""
        return f"mlp_{self.depth}x{self.width}"


SETTINGS: Mapping[str, Setting] = {
    "healthy": Setting(),
    "deep": Setting(depth=4, width=128, rate=1e-3, d_rate=1e-2),
    "regularised": Setting(alpha=1.0),
    "collapsing": Setting(d_rate=3e-4),
}
"""By arm. Rates were chosen by modes hit and share within alone, on seeds from 100 on; a discriminator ten times slower cannot follow
its generator. alpha was not chosen: the term then weighs as much as the other, both being near ln 2."""


@dataclass(frozen=True)
class Trained:
    """Generators of one setting, one a seed. samples: (looks, seeds, batches, n, 2). weights: (seeds, numbers), at the end. steps: of the looks."""

    samples: Tensor
    weights: Tensor
    steps: tuple[int, ...]


def generators(study: Study, question: Question) -> pd.DataFrame:
    """Rows of ENT-8: what a question gives of every setting and seed, every 500 steps and at the end; none where `gan_steps` is 0.

    real_fake, rise: a batch of samples, at the end, and over the first look, before training. modes_hit, share_within: at the end.
    real_fake_by_step (mean over batches), modes_by_step: a look. sample_x, sample_y: of the first seed. Networks of the reader's own
    play no part.
    """
    steps = int(study.settings.values["gan_steps"])
    if not steps or not study.can_measure or study.only_mine:
        return pd.DataFrame()
    real = ring(N_BATCHES * BATCH, torch.Generator().manual_seed(0)).view(N_BATCHES, BATCH, 2)
    frames = []
    for arm, setting in SETTINGS.items():

        def compute(arm: str = arm, setting: Setting = setting) -> dict[str, Tensor]:
            study.report(f"{arm} generators: {steps} steps, {len(SEEDS)} seeds")
            found = train(setting, SEEDS, steps)
            return {"samples": found.samples, "weights": found.weights}

        kept = store.cache("generators", {**asdict(setting), "steps": steps, "seeds": list(SEEDS)}, compute)
        trained = Trained(**kept, steps=looks(steps))
        found = _asked(trained, real, question)
        for k, seed in enumerate(SEEDS):
            who: dict[str, Any] = {
                "arm": arm,
                "recipe": f"gan_{arm}",
                "architecture": setting.architecture,
                "seed": seed,
                "network": key(trained.weights[k]),
            }
            frames += [frame.assign(**who) for frame in _rows(trained, {name: values[:, k] for name, values in found.items()}, k)]
    return pd.concat(frames, ignore_index=True).assign(claim=CLAIM, reached=True)


def ring(n: int, generator: torch.Generator) -> Tensor:
    """n points (n, 2) of the ring, each of a mode drawn at random."""
    return MODES[torch.randint(N_MODES, (n,), generator=generator)] + SD * torch.randn(n, 2, generator=generator)


def looks(steps: int) -> tuple[int, ...]:
    """The steps after which samples are kept: 0, every 500, the last."""
    return (*range(0, steps, EVERY), steps)


def key(numbers: Tensor) -> str:
    """The first 12 digits of the sha256 of a generator's weights, or of points: fp32, of any shape."""
    return hashlib.sha256(numbers.contiguous().numpy().tobytes()).hexdigest()[:12]


def train(setting: Setting, seeds: Sequence[int], steps: int) -> Trained:
    """Train one GAN a seed, all at once. Each draws from a generator of its seed; samples of every look come from the same noise.

    Deterministic on one processor. Raises BadInput where no step is asked for, or a loss is not finite, with the step.
    """
    if steps < 1:
        raise BadInput(f"gan_steps={steps} trains nothing: give at least 1, or leave the generators out")
    sources = [torch.Generator().manual_seed(seed) for seed in seeds]
    g = _layers([LATENT, *[setting.width] * setting.depth, 2], sources)
    d = _layers([2, WIDTH, WIDTH, 1], sources)
    optimise_g = torch.optim.Adam(g, lr=setting.rate, betas=BETAS, fused=True)
    optimise_d = torch.optim.Adam(d, lr=setting.d_rate, betas=BETAS, fused=True)
    noise = torch.randn(N_BATCHES * BATCH, LATENT, generator=torch.Generator().manual_seed(0)).expand(len(seeds), -1, -1)
    samples = [_forward(g, noise).detach()]
    for step in range(1, steps + 1):
        real = torch.stack([ring(BATCH, source) for source in sources]).requires_grad_()
        z = torch.stack([torch.randn(2, BATCH, LATENT, generator=source) for source in sources])
        with torch.no_grad():
            fake = _forward(g, z[:, 0])
        on_real, on_fake = _forward(d, torch.cat([real, fake], dim=1), SLOPE).chunk(2, dim=1)
        (slope,) = torch.autograd.grad(on_real.sum(), real, create_graph=True)
        loss = (
            F.softplus(-on_real).mean(dim=1)
            + F.softplus(on_fake).mean(dim=1)
            + PENALTY / 2 * slope.square().sum(dim=2).mean(dim=1, keepdim=True)
        )
        _descend(optimise_d, d, loss.sum())
        fake = _forward(g, z[:, 1])
        objective = F.softplus(-_forward(d, fake, SLOPE)).mean(dim=1).sum()
        if setting.alpha and step % TERM_EVERY == 0:
            objective = objective - setting.alpha * TERM_EVERY * sum(_entangled(*pair) for pair in zip(real.detach(), fake, strict=True))
        _descend(optimise_g, g, objective)
        if step in looks(steps):
            if not math.isfinite(float((objective + loss.sum()).detach())):
                raise BadInput(f"a loss is not finite by step {step} of {setting}: lower its learning rates")
            samples.append(_forward(g, noise).detach())
    kept = torch.stack(samples).view(len(samples), len(seeds), N_BATCHES, BATCH, 2)
    return Trained(kept, torch.cat([one.detach().flatten(1) for one in g], dim=1), looks(steps))


def _layers(sizes: Sequence[int], sources: Sequence[torch.Generator]) -> list[Tensor]:
    """Weights (seeds, in, out) and biases (seeds, 1, out) in turn, uniform within 1 / sqrt(in), as torch's own layers begin."""
    found = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        for rows in (n_in, 1):
            drawn = torch.stack([torch.rand(rows, n_out, generator=source) for source in sources])
            found.append(((2 * drawn - 1) / math.sqrt(n_in)).requires_grad_())
    return found


def _forward(layers: Sequence[Tensor], x: Tensor, slope: float = 0.0) -> Tensor:
    """x (seeds, n, in) -> (seeds, n, out); between layers a ReLU, of that slope below 0."""
    for k in range(0, len(layers), 2):
        x = torch.baddbmm(layers[k + 1], F.leaky_relu(x, slope) if k else x, layers[k])
    return x


def _descend(optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor], loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward(inputs=parameters)
    optimiser.step()


def _entangled(real: Tensor, fake: Tensor) -> Tensor:
    """The loss, at its minimum over temperature, of real points and samples (n, 2) as two classes."""
    mixed = torch.cat([real[:N_ENTANGLED], fake[:N_ENTANGLED]])
    return minimised(mixed, torch.arange(2).repeat_interleave(N_ENTANGLED))[0]


def _asked(trained: Trained, real: Tensor, question: Question) -> dict[str, Tensor]:
    """What a question gives of every look and seed, (looks, seeds, ...), kept under the samples, the real points and the question's code."""

    def compute() -> dict[str, Tensor]:
        found = [[question(samples, real) for samples in look] for look in trained.samples]
        return {name: torch.stack([torch.stack([one[name].double() for one in look]) for look in found]) for name in found[0][0]}

    described = {"samples": key(trained.samples), "real": key(real), "steps": list(trained.steps)}
    return store.cache("generators asked", described, compute, question)


def _rows(trained: Trained, found: Mapping[str, Tensor], k: int) -> Iterator[pd.DataFrame]:
    """The rows of one generator, number k, without who it is. found: by quantity, (looks, ...)."""
    batches, at = [f"{b:02d}" for b in range(N_BATCHES)], [f"{step:05d}" for step in trained.steps]
    yield _frame("real_fake", batches, found["real_fake"][-1])
    yield _frame("rise", batches, found["real_fake"][-1] - found["real_fake"][0])
    for quantity in ("modes_hit", "share_within"):
        yield _frame(quantity, ["all"], found[quantity][-1:])
    yield _frame("real_fake_by_step", at, found["real_fake"].mean(dim=1))
    yield _frame("modes_by_step", at, found["modes_hit"])
    for place, step in enumerate(at) if not k else ():
        drawn = trained.samples[place, k].flatten(0, 1)[:N_DRAWN]
        for axis, quantity in enumerate(("sample_x", "sample_y")):
            yield _frame(quantity, [f"{point:03d}" for point in range(N_DRAWN)], drawn[:, axis], step)


def _frame(quantity: str, units: Sequence[str], values: Tensor, unit_2: str = "") -> pd.DataFrame:
    return pd.DataFrame({"quantity": quantity, "unit": units, "unit_2": unit_2, "value": [float(f"{one:.4g}") for one in values.tolist()]})
