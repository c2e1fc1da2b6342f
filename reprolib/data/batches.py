"""Batches of device-resident images: shuffled by index, shifted and flipped as one gather. Idea: KellerJordan/cifar10-airbench."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


class Batches:
    """Augmented training batches of one data set that stays on the device as uint8.

    x: uint8 (n, c, h, w). y: int64 (n,). pad_px: random crops after zero padding (0 for none). flip: random mirroring.
    Iterate with `epoch(generator)`; what is drawn depends on the generator alone.
    """

    def __init__(self, x: Tensor, y: Tensor, batch_size: int, pad_px: int = 0, flip: bool = False) -> None:
        self.y, self.batch_size, self.pad_px, self.flip = y, batch_size, pad_px, flip
        self.size = x.shape[-1]
        self.padded = F.pad(x, (pad_px,) * 4) if pad_px else x  # padded once, cropped per batch

    def __len__(self) -> int:
        """Batches an epoch; the last one may be smaller, never a single image (BatchNorm needs two)."""
        return len(self.y) // self.batch_size + (len(self.y) % self.batch_size > 1)

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images float32 (b, c, h, w) in [0, 1], labels (b,)) once through the set, in an order drawn now."""
        order = torch.randperm(len(self.y), generator=generator)
        for i in range(len(self)):
            index = order[i * self.batch_size : (i + 1) * self.batch_size].to(self.y.device)
            yield self._augment(index, generator), self.y[index]

    def _augment(self, index: Tensor, generator: torch.Generator) -> Tensor:
        n, device = len(index), self.padded.device
        shift = torch.randint(0, 2 * self.pad_px + 1, (2, n, 1), generator=generator).to(device)
        mirrored = (torch.rand((n, 1), generator=generator) < 0.5).to(device) if self.flip else None
        if not self.pad_px and not self.flip:
            return self.padded[index].float().div_(255)
        pixels = torch.arange(self.size, device=device)
        columns = torch.where(mirrored, self.size - 1 - pixels, pixels) if mirrored is not None else pixels.expand(n, -1)
        rows, columns = pixels + shift[0], columns + shift[1]
        images = self.padded[index[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (b, h, w, c): channels last already
        return images.permute(0, 3, 1, 2).float().div_(255)
