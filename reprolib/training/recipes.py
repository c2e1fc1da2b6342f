"""Training recipes: what happens to a batch before the network learns from it.

An id names the meaning, e.g. `l2_05`: adversarial training in the L2 ball of radius .5 (pixel units); `version` goes into
the keys of networks and is bumped when the meaning changes. Sources: Madry et al. 2018 (arXiv 1706.06083); step 2.5 eps /
steps; no random start in L2 (the default of MadryLab/robustness), a random one in Linf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from reprolib.errors import BadInput, nearest


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, apart from the scale's knobs.

    norm, eps: the ball of adversarial training in pixel units (None and 0 for none). trained: False for the untrained
    control, whose BatchNorm statistics are estimated on training images.
    """

    id: str
    version: int = 1
    norm: str | None = None
    eps: float = 0.0
    trained: bool = True

    @property
    def random_start(self) -> bool:
        """Whether the inner attack starts from a random point of the ball."""
        return self.norm == "linf"

    def attack_step(self, steps: int) -> float:
        """Step length of the inner attack in pixel units."""
        return 2.5 * self.eps / steps

    def describe(self) -> Mapping[str, object]:
        """Plain values for keys and cards; what a recipe does not use is left out, so that a new field changes no key."""
        used = asdict(self)
        return {name: value for name, value in used.items() if name in ("id", "version") or value != getattr(Recipe, name)}


RECIPES: dict[str, Recipe] = {
    recipe.id: recipe
    for recipe in (
        Recipe("std"),
        Recipe("untrained", trained=False),
        *(
            Recipe(f"l2_{name}", norm="l2", eps=eps)
            for name, eps in {"025": 0.25, "05": 0.5, "1": 1.0, "075": 0.75, "15": 1.5, "3": 3.0}.items()
        ),
        *(Recipe(f"linf_{k}", norm="linf", eps=k / 255) for k in (1, 2, 4, 8)),
    )
}


def recipe(name: str) -> Recipe:
    """The recipe of that id; raises BadInput, naming the nearest, for an unknown one."""
    if name not in RECIPES:
        raise BadInput(f"recipe {name!r} is unknown; allowed: {', '.join(RECIPES)}{nearest(name, RECIPES)}")
    return RECIPES[name]
