"""Gram matrices of features: centred before the product, in full precision, U-centred for the unbiased HSIC.

Sources: Song et al. 2012 (unbiased HSIC); Szekely and Rizzo 2014 (U-centring).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from reprolib.boundary import not_finite
from reprolib.errors import BadInput

LEAST_SAMPLES = 4  # n - 3 divides the unbiased HSIC
VANISHING = 1e-6  # of a Gram's norm: what U-centring leaves below it is the rounding of fp32
WORKING_SET, LEAST_COLUMNS = 2**19, 256  # values centred at a time on a CPU: what its second-level cache holds
TINY, HUGE = 1e-24, 1e30  # sums of squares that fp32 holds with room to spare on both sides


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """No autocast and no TF32 or bf16 inside fp32 products and convolutions, on CPU and GPU; settings are handed back, also after an error."""
    kinds = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv)  # type: ignore[attr-defined]
    before = [kind.fp32_precision for kind in kinds]
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        try:
            for kind in kinds:
                kind.fp32_precision = "ieee"
            yield
        finally:
            for kind, value in zip(kinds, before, strict=True):
                kind.fp32_precision = value


def centred(x: Tensor, name: str = "x") -> Tensor:
    """The features of a batch as (n, p) with columns of mean 0 up to rounding; what is constant over the batch becomes exactly 0.

    x: (n, ...), flattened row by row, the same way for every layer; not changed. float64 stays, any other float dtype
    becomes fp32. Raises BadInput, naming the layer, for other dtypes.
    """
    check_features(x, name)
    flat = x.detach().reshape(len(x), -1)
    return _centred_columns(flat if flat.dtype == torch.float64 else flat.float())


def check_features(x: Tensor, name: str) -> None:
    """Raise BadInput, naming the layer, unless x is a batch of floating point features (n, ...)."""
    if not x.is_floating_point() or x.ndim < 2 or len(x) == 0:
        raise BadInput(f"{name} is {x.dtype} of shape {tuple(x.shape)}: give floating point features (n, ...)")


def check_finite(x: Tensor, name: str) -> None:
    """Raise BadInput, naming the layer, where features are infinite or not numbers."""
    bad = int((~torch.isfinite(x)).sum())
    if bad:
        raise BadInput(
            f"{name} holds {bad} values that are not finite, in samples {not_finite(x)}: CKA is undefined; look at the network and its input"
        )


def gram(x: Tensor, name: str = "x") -> Tensor:
    """The Gram matrix (n, n), float64, of the column-centred features of one batch: all that CKA needs of a layer.

    x: (n, ...); not changed. The product is taken in fp32, as many columns at a time as a cache holds; in float64
    where the features are, or where they are so large or small that fp32 cannot hold it. Raises BadInput as
    `centred` does, and for values that are not finite.
    """
    check_features(x, name)
    n = len(x)
    half = n // 2
    rows = _rows(x.detach())
    full = torch.float64 if x.dtype == torch.float64 else torch.float32
    width = max(LEAST_COLUMNS, WORKING_SET // n) if rows.device.type == "cpu" else rows.shape[1]
    space = rows.new_empty((n, min(width, rows.shape[1])), dtype=full)  # for every part again: fresh memory costs more than the work
    product = rows.new_zeros((n, n), dtype=full)
    with full_precision():
        for columns in rows.split(width, dim=1):
            found = _centred_columns(columns.to(full), space[:, : columns.shape[1]])
            product[:half, :half].addmm_(found[:half], found[:half].T)
            product[half:].addmm_(found[half:], found.T)
    product[:half, half:] = product[half:, :half].T
    product = product.double()
    size = float(product.diagonal().sum())
    if TINY < size < HUGE:
        return product
    check_finite(x, name)
    return product if x.dtype == torch.float64 else gram(x.double(), name)


def u_centred(grams: Tensor) -> Tensor:
    """U-centred Grams (..., n, n), n >= 4: zero diagonal, and off-diagonal rows and columns that sum to 0.

    Blind to a shift of the features. <Kc, Lc> / (n (n - 3)) is the unbiased HSIC. A Gram of which only rounding is left (at
    most one example differs from the others) becomes exactly 0.
    """
    n = grams.shape[-1]
    if n < LEAST_SAMPLES:
        raise BadInput(f"n={n} examples: the unbiased HSIC needs at least {LEAST_SAMPLES}; give larger batches")
    found = grams.clone()
    diagonal = found.diagonal(dim1=-2, dim2=-1)
    diagonal.zero_()
    means = found.sum(dim=-1) / (n - 2)
    means -= means.sum(dim=-1, keepdim=True) / (2 * (n - 1))
    found -= means[..., :, None]
    found -= means[..., None, :]
    diagonal.zero_()
    size, left = (torch.linalg.vector_norm(one, dim=(-2, -1), keepdim=True) for one in (grams, found))
    return found.masked_fill_(left <= VANISHING * size, 0)


def _rows(x: Tensor) -> Tensor:
    """(n, ...) as (n, p) without a copy where one order of the columns allows it: a Gram is the same in any."""
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)
    return x.reshape(len(x), -1)


def _centred_columns(x: Tensor, out: Tensor | None = None) -> Tensor:
    found = torch.sub(x, x.mean(dim=0), out=out)  # the last bit of a mean under an offset is a shift: U-centring is blind to it
    suspects = ((x[-1] == x[0]) & (x[0] != 0)).nonzero().squeeze(1)  # of constant 0 the mean is exact
    if len(suspects):
        constant = suspects[(x[:, suspects] == x[0, suspects]).all(dim=0)]
        found.index_fill_(1, constant, 0)
    return found
