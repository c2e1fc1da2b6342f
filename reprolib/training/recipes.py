"""Training recipes: what happens to a batch before the network learns from it.

An id names the meaning, e.g. `l2_05`: adversarial training in the L2 ball of radius .5 (pixel units); `version` goes into
the keys of networks and is bumped when the meaning changes. Sources: Madry et al. 2018 (arXiv 1706.06083); step 2.5 eps /
steps; no random start in L2 (the default of MadryLab/robustness), a random one in Linf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from reprolib.errors import BadInput, nearest


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, apart from the scale's knobs.

    norm, eps: the ball of adversarial training in pixel units (None and 0 for none). noise: standard deviation of Gaussian
    noise on every training image. blur_px: standard deviation of a Gaussian blur of every training image. target: weight
    of the true class in the loss, the rest spread evenly. trained: False for the untrained control, whose BatchNorm
    statistics are estimated on training images. n_images, epochs: in the place of the scale's (0: the scale's). matched:
    True for the control that is a snapshot of the standard network, as accurate as the robust one (`training.matching`).
    alpha: weight of the soft nearest neighbour loss of the hidden layers beside the cross-entropy (`training.objective`); below 0
    it entangles the classes. held_out: share of the training images, the last ones, that are kept out of training for
    a choice to be made on (`training.choice`).
    """

    id: str
    version: int = 1
    norm: str | None = None
    eps: float = 0.0
    noise: float = 0.0
    blur_px: float = 0.0
    target: float = 1.0
    trained: bool = True
    n_images: int = 0
    epochs: int = 0
    matched: bool = False
    alpha: float = 0.0
    held_out: float = 0.0

    @property
    def random_start(self) -> bool:
        """Whether the inner attack starts from a random point of the ball."""
        return self.norm == "linf"

    def attack_step(self, steps: int) -> float:
        """Step length of the inner attack in pixel units."""
        return 2.5 * self.eps / steps

    def alter(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """What noise and blur make of a batch of images (n, c, h, w) in [0, 1]; the batch itself where there is neither."""
        if self.blur_px:
            from torchvision.transforms.functional import gaussian_blur  # only here: it takes a second to import

            images = gaussian_blur(images, kernel_size=2 * round(4 * self.blur_px) + 1, sigma=self.blur_px)
        if self.noise:
            drawn = torch.randn(images.shape, generator=generator).to(images.device)
            images = (images + self.noise * drawn).clamp(0, 1)
        return images

    def smoothing(self, n_classes: int) -> float:
        """`target` as torch's label smoothing, which spreads its share over all classes, the true one too."""
        return (1 - self.target) * n_classes / (n_classes - 1)

    def describe(self) -> Mapping[str, object]:
        """Plain values for keys and cards; what a recipe does not use is left out, so that a new field changes no key."""
        used = asdict(self)
        return {name: value for name, value in used.items() if name in ("id", "version") or value != getattr(Recipe, name)}


ALPHAS: dict[str, float] = {
    f"snnl_{sign}{name}": factor * size
    for sign, factor in (("m", -1), ("p", 1))
    for name, size in {"003": 0.03, "01": 0.1, "03": 0.3}.items()
}
"""Recipes trained with the soft nearest neighbour loss. Source: Frosst et al. 2019 (arXiv 1902.01889); the weights are this project's."""

RECIPES: dict[str, Recipe] = {
    recipe.id: recipe
    for recipe in (
        Recipe("std"),
        Recipe("untrained", trained=False),
        Recipe("std_matched", matched=True),
        # The pair that overfits. Source: Rice et al. 2020 (arXiv 2002.11569), who overfit on all of CIFAR-10 in 200 epochs.
        Recipe("std_5k", n_images=5_000, epochs=80),
        Recipe("linf_8_5k", norm="linf", eps=8 / 255, n_images=5_000, epochs=80),
        *(
            Recipe(f"gauss_{name}", noise=noise)
            for name, noise in {"05": 0.05, "10": 0.1, "15": 0.15, "20": 0.2, "30": 0.3, "40": 0.4}.items()
        ),
        Recipe("blur", blur_px=1.0),
        Recipe("label_smoothing", target=0.9),
        *(
            Recipe(f"l2_{name}", norm="l2", eps=eps)
            for name, eps in {"025": 0.25, "05": 0.5, "1": 1.0, "075": 0.75, "15": 1.5, "3": 3.0}.items()
        ),
        *(Recipe(f"linf_{k}", norm="linf", eps=k / 255) for k in (1, 2, 4, 8)),
        *(Recipe(name, alpha=alpha) for name, alpha in ALPHAS.items()),
        # Out of these alpha is chosen; they serve no claim.
        *(Recipe(f"{name}_choice", alpha=alpha, held_out=0.1) for name, alpha in {"std": 0.0, **ALPHAS}.items() if alpha <= 0),
    )
}


def recipe(name: str) -> Recipe:
    """The recipe of that id; raises BadInput, naming the nearest, for an unknown one."""
    if name not in RECIPES:
        raise BadInput(f"recipe {name!r} is unknown; allowed: {', '.join(RECIPES)}{nearest(name, RECIPES)}")
    return RECIPES[name]


def without_attack(how: Recipe) -> Recipe:
    """The recipe that is the same but for the attack: what an adversarial one is compared with."""
    return next(other for other in RECIPES.values() if other == replace(how, id=other.id, version=other.version, norm=None, eps=0.0))
