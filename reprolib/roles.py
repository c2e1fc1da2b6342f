"""Which networks play which role at a scale: loaded, or trained now and kept; what is missing is said."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

from torch import nn

from reprolib import data, front_end, registry
from reprolib.data import Images
from reprolib.errors import BadInput, nearest
from reprolib.models.mine import Own
from reprolib.models.networks import MINE, Network
from reprolib.parameters import FROM_ROWS, Settings
from reprolib.scales import SHARED_ROLES
from reprolib.training import pool, zoo

JUDGES = ("standard", "robust")
Read = TypeVar("Read", bound=Any)  # with `name` and `sha256`


class Roles:
    """The networks and images of one run.

    Attributes: `mine` (the reader's own networks), `only_mine` (whether they alone are measured, beside committed rows),
    `settings`, `device`, `measured` ("yes", or "no (reason)" when a data set is not here), `can_measure`, `report` and
    `each` (how far the work is: `front_end.Progress`).
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.device = settings, settings.device
        self._networks: dict[str, Network] = {}
        self._images: dict[str, Images] = {}
        self._read: dict[str, str] = {}
        self._named: dict[str, str] = {}
        self.mine: list[Own] = []
        self.only_mine = False
        progress = front_end.Progress(front_end.is_wanted(settings.interactive))
        self.report, self.each = progress.report, progress.each
        if not registry.measures(settings.finding):
            self.measured = "yes"
            return
        found = next(row for row in data.status() if row["name"] == settings.scale.dataset)
        if os.environ.get(FROM_ROWS) == "1":
            self.measured = "no (drawn from the committed rows)"
            return
        self.measured = "yes" if found["found"] else f"no ({settings.scale.dataset.upper().replace('CIFAR10', 'CIFAR-10')} absent)"

    @property
    def can_measure(self) -> bool:
        """Whether the scale's images are here; if not, figures and verdicts come from the committed rows."""
        return self.measured == "yes"

    def images(self, split: str = "test") -> Images:
        """The scale's images; raises MissingData when they are not here."""
        if split not in self._images:
            self._images[split] = data.load(self.settings.scale.dataset, split)
        return self.reads(self._images[split]) if split == "test" else self._images[split]

    def reads(self, read: Read) -> Read:
        """What is given (images, or a file that is read), whose hash `results.json` will name among the data."""
        self._read[read.name] = read.sha256
        return read

    def names(self, network: str, sha256: str) -> None:
        """Have `results.json` name a network that is not in the zoo: what it said is kept, and was read."""
        self._named[network] = sha256

    def networks(self, *roles: str, mine: nn.Module | Sequence[nn.Module] | None = None) -> dict[str, list[Network]]:
        """The networks that play each role at this scale, one per seed, in eval mode: loaded, or trained now and kept.

        roles: none given stands for every role of the scale that findings share, standard and robust first. A role may have no
        network: without the data set what is not in the zoo is left out, and so is, with a line that says so, what this
        scale trains by command only, and a matched control that is not applicable or does not match.
        mine: the reader's own, from images in [0, 1] to logits: drawn beside the arms, in no verdict. At the presets, where rows are
        committed, they alone are measured and given, and all others drawn from those rows.
        Raises BadInput for a role the scale does not have, and for networks of the reader's own that do not take its images, or twice.
        """
        if mine is not None:
            self._admit([mine] if isinstance(mine, nn.Module) else mine)
        for role in roles:
            if role not in self.settings.scale.roles:
                roles_here = self.settings.scale.roles
                raise BadInput(
                    f"role {role!r} is not at scale {self.settings.scale.name}; allowed: {', '.join(roles_here)}{nearest(role, roles_here)}"
                )
        chosen = () if self.only_mine else roles or self._shared_roles()
        self._train([spec for role in chosen for spec in self._on_demand(role)])
        found = {role: self._loaded(self._role_specs(role)) for role in chosen}
        if self.can_measure:
            self._say_what_is_missing([spec for role in chosen for spec in self._role_specs(role)])
        return found | ({MINE: [*self.mine]} if self.mine else {})

    def _admit(self, models: Sequence[nn.Module]) -> None:
        images = self.images("test")
        x = images.x[:2].to(self.device).float() / 255
        self.mine = [Own(model, x, len(images.classes), k) for k, model in enumerate(models)]
        if not models or len({network.sha256 for network in self.mine}) < len(models):
            raise BadInput(f"mine holds {len(models)} networks, none or one of them twice: give at least one, and each once")

    def first(self, role: str) -> Network | None:
        """The first network of a role, in eval mode, where it is in the zoo, whatever is measured."""
        return next(iter(self._loaded(self._role_specs(role)[:1])), None) if role in self.settings.scale.roles else None

    def found(self, specs: Sequence[zoo.Spec]) -> list[Network]:
        """Those of the named networks that are in the zoo, in eval mode; none is trained here, and a line says which are missing."""
        if self.only_mine:
            return []
        if self.can_measure:
            self._say_what_is_missing(specs)
        return self._loaded(specs)

    def judges(self) -> dict[str, Network]:
        """The standard and the robust judge: networks of another architecture or seed, never inverted themselves."""
        specs = self._judge_specs()
        self._train(list(specs.values()))
        return {kind: network for kind, spec in specs.items() for network in self._loaded([spec])}

    def _shared_roles(self) -> tuple[str, ...]:
        return tuple(role for role in SHARED_ROLES if role in self.settings.scale.roles)

    def _specs(self) -> list[zoo.Spec]:
        return [spec for role in self._shared_roles() for spec in self._on_demand(role)] + list(self._judge_specs().values())

    def _on_demand(self, role: str) -> list[zoo.Spec]:
        """The networks of a role that a notebook trains where they are missing: of a role that has some, no more unless the reader asks."""
        specs = self._role_specs(role) if role in self.settings.scale.on_demand else []
        some = any(spec.path.exists() for spec in specs) and "seeds" not in self.settings.overridden
        return [spec for spec in specs if spec.path.exists()] if some else specs

    def _role_specs(self, role: str) -> list[zoo.Spec]:
        scale = self.settings.scale
        recipe = scale.roles[role]
        # The arms have as many seeds as the reader asks for, the others what the table trains.
        seeds = list(range(self.settings["seeds"])) if role in JUDGES else scale.seeds_of(scale.architecture, recipe)
        return [zoo.Spec(recipe, scale.architecture, scale.dataset, seed, scale.name) for seed in seeds or [0]]

    def _judge_specs(self) -> dict[str, zoo.Spec]:
        scale = self.settings.scale
        return {
            kind: zoo.Spec(scale.roles[kind], scale.judge_architecture, scale.dataset, scale.judge_seed, scale.judge_scale or scale.name)
            for kind in JUDGES
        }

    def _train(self, specs: Sequence[zoo.Spec]) -> None:
        missing = [spec for spec in specs if not spec.path.exists() and not zoo.not_applicable(spec)]
        if missing and self.can_measure:
            jobs = int(os.environ.get("REPROLIB_JOBS", os.cpu_count() or 1))

            def report(line: str) -> None:
                self.report(line, sum(spec.path.exists() for spec in missing), len(missing))

            pool.train_specs(missing, jobs, self.device, report)

    def _loaded(self, specs: Sequence[zoo.Spec]) -> list[Network]:
        """Those in the zoo, but for controls that do not match what they control for."""
        there = [spec for spec in specs if spec.path.exists() and not _mismatch(spec)]
        for spec in there:
            if spec.name not in self._networks:
                self._networks[spec.name] = zoo.load(spec, self.device)
        return [self._networks[spec.name] for spec in there]

    def _say_what_is_missing(self, specs: Sequence[zoo.Spec]) -> None:
        """One line for what is not in the zoo, one for each control that cannot be."""
        absent = []
        for spec in specs:
            if why := zoo.not_applicable(spec):
                print(f"{spec.name} is not applicable: {why}.")
            elif why := _mismatch(spec):
                print(f"{spec.name} is left out: {why}.")
            elif not spec.path.exists():
                absent.append(spec)
        if absent:
            only = " ".join(f"--only {spec.name}" for spec in absent)
            minutes = sum(pool.estimated_minutes(spec) for spec in absent)
            print(
                f"Not trained yet: {', '.join(spec.name for spec in absent)} (about {max(1, round(minutes))} minutes of one core): "
                f"`reprolib train --scale {self.settings.scale.name} {only}`."
            )


def _mismatch(spec: zoo.Spec) -> str:
    """Why a matched control that was chosen is none: no state was near enough. Empty otherwise."""
    match = (zoo.card_of(spec) or {}).get("matching")
    return "" if match is None or match["matched"] else f"the nearest state is {100 * match['distance']:.1f} points from {match['robust']}"
