"""Few changed pixels that fool a network, found by differential evolution without gradients. Source: Su et al. 2019 (arXiv 1710.08864).

As there: positions drawn evenly and colours from N(128, 127) of 255 at first, F = .5, no crossover, each child against its own father, by
the probability of the true class; what leaves the range is clipped to it. Population and generations are this project's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reprolib.boundary import Classifier, check_count, checked_images, checked_labels, own_state
from reprolib.errors import BadInput
from reprolib.models.layers import eval_mode, movable_if_same
from reprolib.perturb.attacks import predictions
from reprolib.perturb.deepfool import Fooled

F = 0.5  # weight of a difference of two candidates
LEAST_POPULATION = 4  # a candidate and three others


@own_state()
def one_pixel(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    pixels: int = 1,
    population: int = 100,
    generations: int = 30,
    seed: int = 0,
    batch_size: int = 100,
) -> Fooled:
    """Images x (n, c, h, w) in [0, 1] with exactly `pixels` pixels of each changed, so that the network misses their label y (n,).

    An image stops once one of its candidates is misclassified; one that never is comes back as the candidate that is least probable to be
    of its class. Images that are wrong from the start stay as they are, and count as succeeded. Draws depend on `seed`, the image and its
    label alone, so that it does not matter which others are there. batch_size: candidates a forward. Judged by the network itself, in
    eval mode and fp32; searched on a faster copy if that is the same function. Costs up to `population` (`generations` + 1) forwards an image.
    Raises BadInput for images, labels, counts or an output that do not fit.
    """
    x = checked_images(x).detach()
    y = checked_labels(y, len(x)).to(x.device)
    for name, count in (("pixels", pixels), ("population", population), ("generations", generations), ("batch_size", batch_size)):
        check_count(count, name)
    size = x.shape[2] * x.shape[3]
    if pixels > size:
        raise BadInput(f"pixels={pixels} is not allowed: images of {x.shape[3]} x {x.shape[2]} have {size}")
    if population < LEAST_POPULATION:
        raise BadInput(f"population={population} is too small for differences of candidates: give at least {LEAST_POPULATION}")
    with eval_mode(network):
        judge = Classifier(network, y)
        search = _Search(Classifier(movable_if_same(network, x), y), pixels, population, batch_size)
        moved = x.clone()
        right = (predictions(judge, x) == y).nonzero().flatten()
        if len(right):
            with torch.no_grad():
                moved[right] = search.best(x[right], y[right], generations, [_stream(seed, x[i], y[i]) for i in right.tolist()])
        succeeded = predictions(judge, moved) != y
    return Fooled(moved, (moved - x).flatten(1).norm(dim=1), succeeded)


class _Search:
    """Differential evolution over changed pixels. Genes of a candidate, all in [0, 1]: (pixels, 2 + c) of row, column and colour."""

    def __init__(self, model: nn.Module, pixels: int, population: int, batch_size: int) -> None:
        self.model, self.pixels, self.population, self.batch_size = model, pixels, population, batch_size

    def best(self, x: Tensor, y: Tensor, generations: int, streams: Sequence[torch.Generator]) -> Tensor:
        """Images (n, c, h, w) with each one's best candidate painted in: one that fools, else the least probable of class y (n,)."""
        found, live, running = x.clone(), torch.arange(len(x), device=x.device), list(streams)
        genes = self._first(x, running)
        odds, fooled = self._judged(x, y, genes)
        for generation in range(generations + 1):
            done = fooled.any(dim=1) | (generation == generations)
            if done.any():
                ranked = odds[done].masked_fill(fooled[done].any(dim=1, keepdim=True) & ~fooled[done], math.inf)
                chosen = genes[done, ranked.argmin(dim=1)]
                found[live[done]] = _painted(x[live[done]], chosen)
                live, genes, odds = live[~done], genes[~done], odds[~done]
                running = [stream for stream, over in zip(running, done.tolist(), strict=True) if not over]
            if not len(live):
                break
            children = self._children(genes, running)
            theirs, fooled = self._judged(x[live], y[live], children)
            better = fooled | (theirs <= odds)
            genes, odds = torch.where(better[:, :, None, None], children, genes), torch.where(better, theirs, odds)
        return found

    def _first(self, x: Tensor, streams: Sequence[torch.Generator]) -> Tensor:
        """Genes (n, population, pixels, 2 + c) to begin with."""
        shape = self.population, self.pixels
        drawn = [
            torch.cat([torch.rand(*shape, 2, generator=one), (128 + 127 * torch.randn(*shape, x.shape[1], generator=one)) / 255], dim=2)
            for one in streams
        ]
        return torch.stack(drawn).clamp(0, 1).to(x)

    def _children(self, genes: Tensor, streams: Sequence[torch.Generator]) -> Tensor:
        """One child a candidate, of three others of its image that are not the same one twice."""
        p = self.population
        drawn = torch.stack([torch.rand(p, 3, generator=one) for one in streams]).to(genes.device)
        ahead = (drawn * torch.tensor([p - 1, p - 2, p - 3], device=genes.device)).long()  # of the candidates not yet taken
        a, b, c = ahead.unbind(dim=2)
        b = b + (b >= a)
        low, high = torch.minimum(a, b), torch.maximum(a, b)
        c = c + (c >= low)
        c = c + (c >= high)
        image = torch.arange(len(genes), device=genes.device)[:, None]
        own = torch.arange(p, device=genes.device)
        one, two, three = (genes[image, (own + 1 + shift) % p] for shift in (a, b, c))
        return (one + F * (two - three)).clamp(0, 1)

    def _judged(self, x: Tensor, y: Tensor, genes: Tensor) -> tuple[Tensor, Tensor]:
        """Of every candidate (n, population): the log-odds of the true class, in the order of its probability, and whether it fools.

        A probability itself rounds to 1 in fp32, and with it all candidates of an image that the network is sure of.
        """
        image = torch.arange(len(x), device=x.device).repeat_interleave(self.population)
        found, label, flat = [], y[image][:, None], genes.flatten(0, 1)
        for part in torch.arange(len(image), device=x.device).split(self.batch_size):
            found.append(self.model(_painted(x[image[part]], flat[part])))
        logits = torch.cat(found)
        others = logits.scatter(1, label, -math.inf).logsumexp(dim=1)
        odds = logits.gather(1, label)[:, 0] - others
        shape = len(x), self.population
        return odds.view(shape), (logits.argmax(dim=1) != label[:, 0]).view(shape)


def _painted(x: Tensor, genes: Tensor) -> Tensor:
    """A copy of images x (n, c, h, w) with the pixels that their genes (n, pixels, 2 + c) name, all different ones, in other colours."""
    height, width = x.shape[2:]
    row, column = ((genes[:, :, k] * side).long().clamp(max=side - 1) for k, side in enumerate((height, width)))
    place = _apart(row * width + column, height * width)[:, None].expand(-1, x.shape[1], -1)
    colour = genes[:, :, 2:].transpose(1, 2)
    painted = x.flatten(2).clone()
    is_same = (painted.gather(2, place) == colour).all(dim=1, keepdim=True)
    painted.scatter_(2, place, torch.where(is_same, (colour + 0.5) % 1, colour))  # or a pixel of that colour already would not be changed
    return painted.view_as(x)


def _apart(place: Tensor, size: int) -> Tensor:
    """Places (n, pixels) in 0 to size - 1, where one that is taken by an earlier one gives way to the next that is free."""
    place = place.clone()
    for k in range(1, place.shape[1]):
        for _ in range(k):
            place[:, k] = (place[:, k] + (place[:, :k] == place[:, k : k + 1]).any(dim=1)) % size
    return place


def _stream(seed: int, image: Tensor, label: Tensor) -> torch.Generator:
    """The image's own source of draws, always on the CPU: the same numbers whatever the device."""
    digest = hashlib.sha256(f"{seed} {int(label)}".encode() + image.cpu().contiguous().numpy().tobytes()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
