"""From a network and images to named features, and the modes a network is put in while it is measured."""

from __future__ import annotations

import contextlib
import copy
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.fusion import fuse_conv_bn_eval

from reprolib.boundary import Classifier, Take, checked_images, fitting, not_finite
from reprolib.errors import BadInput, nearest
from reprolib.models.networks import ConvBN, Network

LAST = "last"
"""Alias of the last post-activation map, the one that `representation` pools."""


def features(network: Network, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Post-activation maps (n, c, h, w) of the named layers for images x (n, 3, h, w) in [0, 1].

    layers: names out of `network.layer_names`, "last", or "pooled" (the globally pooled code, (n, n_features)).
    Stops after the deepest one asked for. In eval mode, without autocast. Raises BadInput for an unknown name, and for images
    outside [0, 1].
    """
    x = checked_images(x)
    wanted = {name: _map_of(network, name, (LAST, "pooled")) for name in layers}
    found: dict[str, Tensor] = {}
    with _measuring(network, x):
        for name, value in network.maps(x):
            if name in wanted.values():
                found[name] = value
                if len(found) == len(set(wanted.values())):
                    break
    return {name: found[layer].mean(dim=(2, 3)) if name == "pooled" else found[layer] for name, layer in wanted.items()}


def shrunk(value: Tensor, most: int = 4_096) -> Tensor:
    """A map (n, c, h, w) averaged over 2 x 2, 4 x 4, ... positions until at most `most` numbers an example are left, (n, d).

    What distances between examples are taken of: the sides of our maps are powers of 2, at other sides the last window is smaller.
    Other shapes are flattened as they are, and so is a map of more than `most` channels at one position.
    """
    window = 1
    while (
        value.ndim == 4
        and value.shape[1] * math.prod(-(-side // window) for side in value.shape[2:]) > most
        and window < max(value.shape[2:])
    ):
        window *= 2
    value = value if window == 1 else F.avg_pool2d(value, window, ceil_mode=True)
    if value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last):
        value = value.permute(0, 2, 3, 1)  # no copy: distances are the same in any order of the columns
    return value.flatten(1)


def representation(network: Network, x: Tensor, pool: int = 1, layer: str = LAST, straight_through: bool = False) -> Tensor:
    """The code R(x): a layer's post-activation map averaged to pool x pool positions and flattened, (n, c * pool * pool).

    pool = 1 and the last layer is the paper's R (the input of the linear head). straight_through: the last ReLU passes
    gradients to units that are off. Source: Engstrom et al. 2019 (arXiv 1906.00945); "fake ReLU": MadryLab/robustness.
    In eval mode, without autocast. Raises BadInput when the map is smaller than pool x pool, the layer is unknown, or images lie
    outside [0, 1].
    """
    x = checked_images(x)
    wanted = _map_of(network, layer, (LAST,))
    with _measuring(network, x):
        value = next(value for name, value in network.maps(x, straight_through) if name == wanted)
    if not 1 <= pool <= min(value.shape[2:]):
        what = f"larger than the {value.shape[2]} x {value.shape[3]} map of {wanted}" if pool > 0 else "no number of positions a side"
        raise BadInput(f"pool={pool} is {what}; allowed: 1 to {min(value.shape[2:])}")
    if value.shape[2:] == (pool, pool):
        return value.flatten(1)  # one position each: averaging would copy the map, forward and backward
    return F.adaptive_avg_pool2d(value, pool).flatten(1)


def _map_of(network: Network, name: str, of_last: tuple[str, ...]) -> str:
    """The map that a layer's name stands for; of_last: names that stand for the last map."""
    if not isinstance(network, Network):
        cure = "its .module" if hasattr(network, "module") else "reprolib.inverses(net, images), which takes any network,"
        raise BadInput(f"{type(network).__name__} is not a Network with named maps: give {cure} or a Network (reprolib.models)")
    allowed = (*network.layer_names, *of_last)
    if name not in allowed:
        raise BadInput(f"layer {name!r} is not in {network.architecture}; allowed: {', '.join(allowed)}{nearest(name, allowed)}")
    return network.layer_names[-1] if name in of_last else name


@contextlib.contextmanager
def _measuring(network: Network, x: Tensor) -> Iterator[None]:
    """The network in eval mode and fp32; grad mode is the caller's, who may differentiate what comes out."""
    with eval_mode(network), torch.autocast(x.device.type, enabled=False), fitting(network, x):
        yield


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """The model in eval mode inside the block; afterwards every submodule is in the mode it was in, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes:  # some do more than note the mode: adapters merge their weights
            if type(module).train is not nn.Module.train and module.training != training:
                module.train(training)
        for module, training in modes:
            module.training = training


def fold_batch_norm(network: Network, pairs: Sequence[Sequence[str]] | None = None) -> Network:
    """A copy in eval mode whose convolutions absorb their BatchNorm: W g / sqrt(v + e), b - m g / sqrt(v + e).

    The same function up to rounding, and faster. A folded copy has no BatchNorm left to hook, and its parameters do not
    require gradients. pairs: names of the convolutions and BatchNorms to merge; absent, those of every `ConvBN`.
    """
    folded = copy.deepcopy(network).eval()
    if pairs is None:
        own = ((name, module) for name, module in network.named_modules() if isinstance(module, ConvBN))
        pairs = [(f"{name}.conv", f"{name}.bn") for name, module in own if isinstance(module.bn, nn.BatchNorm2d)]
    for conv, bn in pairs:
        folded.set_submodule(conv, fuse_conv_bn_eval(folded.get_submodule(conv), folded.get_submodule(bn)))  # type: ignore[type-var, arg-type]
        folded.set_submodule(bn, nn.Identity())
    return folded.eval().requires_grad_(False)


def movable(network: Network, pairs: Sequence[Sequence[str]] | None = None) -> Network:
    """A folded copy for moving pixels by its gradient: in the channels_last format, and with a fast gradient through a strided stem.

    The same function as the folded one, bit by bit; the gradient through such a stem is the same up to rounding.
    """
    folded = fold_batch_norm(network, pairs).to(memory_format=torch.channels_last)
    if _has_strided_stem(network):
        folded.stem.conv = _StridedStem(folded.stem.conv)  # type: ignore[union-attr, arg-type]
    return folded


def movable_if_same(model: nn.Module, x: Tensor, logits: Take | None = None) -> nn.Module:
    """The `movable` copy of anybody's model if it gives four of images x (n, c, h, w) the same logits and gradient each; else the model.

    Merged is each BatchNorm that alone is given what a convolution makes, both running once. No copy is made of a model that is compiled
    or has hooks; what cannot be copied, merged or run in this format says itself what does not fit. logits: where they are in its output.
    """
    for part in model.modules():
        hooks = (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)
        if any(hooks) or part._compiled_call_impl or "_orig_mod" in part._modules or any(w.is_inference() for w in part.parameters(False)):
            return model

    def answer(network: nn.Module) -> tuple[Tensor, Tensor]:
        images = x[:: max(len(x) // 4, 1)][:4].detach().clone().requires_grad_()
        given = Classifier(network, logits=logits)(images)
        return given, torch.autograd.grad(given.square().sum(), images)[0].flatten(1)

    with contextlib.suppress(Exception), torch.random.fork_rng([x.device] if x.is_cuda else []):
        plain = copy.deepcopy(model).eval().requires_grad_()
        wanted = answer(plain)
        moving = movable(model, _pairs(plain, wanted[0]))  # type: ignore[arg-type]
        near = [((one - other).norm(dim=1) <= 0.01 * other.norm(dim=1)).all() for one, other in zip(answer(moving), wanted, strict=True)]
        if all(near):
            return moving  # so near by rounding, and by units at their threshold
    return model


def movable_key(network: Network) -> str:
    """What identifies `movable(network)` in the keys of measurements: the weights, and the gradient where it is not the plain one."""
    return f"{network.sha256}, gradient by patches" if _has_strided_stem(network) else network.sha256


def _pairs(network: nn.Module, logits: Tensor) -> list[list[str]]:
    """Names of each convolution and of the BatchNorm that alone uses it, both once, in the graph behind a network's logits."""
    names = {id(part.weight): name for name, part in network.named_modules() if type(part) in (nn.Conv2d, nn.BatchNorm2d)}
    uses, nodes, found = Counter[Any](), list[Any]([logits.grad_fn]), []
    for node in nodes:  # grows on the way
        before = [there for there, _ in node.next_functions if there is not None]
        nodes += [there for there in dict.fromkeys(before) if there not in uses]
        uses.update(before)
    for bn in nodes:
        conv = bn.next_functions[0][0] if "BatchNorm" in bn.name() else None
        if conv is not None and "Convolution" in conv.name():
            used = conv, conv.next_functions[1][0], bn.next_functions[1][0]
            pair = [names.get(id(getattr(one, "variable", None)), "") for one in used[1:]]
            found += [pair] if all(pair) and {uses[one] for one in used} == {1} else []
    return found


def _has_strided_stem(network: Network) -> bool:
    conv = getattr(getattr(network, "stem", None), "conv", None) if isinstance(network, Network) else None
    return conv is not None and conv.stride == (2, 2) and conv.kernel_size[0] % 4 == 3


class _StridedStem(nn.Module):
    """A convolution of stride 2 on few channels, whose gradient to the images is one dense convolution.

    Pixels in 2 x 2 patches make the stride 1, and four times the channels. As it stands, the gradient of a 7 x 7 stem to its
    3 channels takes a fifth of a step of an inversion (4.7 of 21 ms for 64 images, one core of an AVX512 server, torch 2.15.0); so 1.8.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias, self.padding = conv.weight, conv.bias, conv.padding
        in_patches = F.pixel_unshuffle(F.pad(conv.weight, (1, 0, 1, 0)), 2)  # an even kernel, its patches aligned with the image's
        self.backward_weight = in_patches.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of images x (n, c, h, w)."""
        return _PatchGradient.apply(x, self.weight, self.bias, self.padding, self.backward_weight)


class _PatchGradient(torch.autograd.Function):
    """See `_StridedStem`; parameters receive no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int], backward_weight: Tensor) -> Tensor:
        ctx.save_for_backward(backward_weight)
        ctx.size = x.shape[2:]
        return F.conv2d(x, weight, bias, 2, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        after = weight.shape[-1] // 2
        padded = F.pad(gradient, (after - 1, after, after - 1, after))
        height, width = ctx.size
        return F.pixel_shuffle(F.conv2d(padded, weight.to(padded.dtype)), 2)[:, :, :height, :width], None, None, None, None


def logits_of(network: nn.Module, x: Tensor, batch_size: int = 100) -> Tensor:
    """Logits (n, classes) of images x (n, c, h, w) in [0, 1]: in eval mode, in fp32, without gradients.

    Raises BadInput for images outside [0, 1], for a model that gives no logits, and naming the images where one is not a number.
    """
    x, classifier = checked_images(x), Classifier(network)
    with eval_mode(network), torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        found = torch.cat([classifier(part) for part in x.split(batch_size)])
    if unknown := not_finite(found):
        raise BadInput(
            f"the network's logits for images {unknown} are not finite, so they name no class: look at its weights and precision"
        )
    return found
