"""A question asked of the soft labels of every network, class by excluded class: which points there are, and what becomes rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

import pandas as pd

from reprolib import store
from reprolib.data import factorial
from reprolib.errors import CorruptFile, MissingData
from reprolib.findings.zero_shot_quality import classes
from reprolib.findings.zero_shot_quality.classes import Excluded, Told
from reprolib.judging.claims import numbers
from reprolib.judging.tidy import row
from reprolib.study import Study
from reprolib.training import leave_one_out, zoo
from reprolib.training import points as table
from reprolib.training.leave_one_out import SoftLabels
from reprolib.training.points import Point

OWN, CAPSULES = "ZSQ-1", "ZSQ-5"
"""Claims under which rows are kept: of all points, and of those that are compared with capsules, whose arm is their architecture."""
SAME = 0.005
"""Probabilities that lie nearer are the same: they are kept in half precision, and kinds of processor round differently."""
OF_CAPSULES = ("fashion_mnist", factorial.SMALL)
"""Sets on which capsules are trained."""
ARMS = {"std": "standard", "linf_2": "robust_small", "linf_4": "robust_medium"}
DRAWN = ("standard", "robust", "label_smoothing", "gauss")
"""Arms of which one network's soft labels of one class are drawn."""
BY_ARCHITECTURE = ("dbm", "am", "dbm_matched")
"""Quantities that claims show of every architecture for itself."""
PANELS = {"adversarial_error": "dbm_with_error", "residuals": "dbm_with_distance@given_confidence"}
"""Panels of the figure of attacks beside the first, and the parts of ZSQ-3 that they show."""

Question = Callable[[Excluded], Mapping[str, float]]
"""What is asked of one excluded class: {quantity: number}."""
Asked = Mapping[Point, SoftLabels]


def asked_of(study: Study) -> dict[Point, SoftLabels]:
    """The scale's points, up to the seeds of the settings, with their soft labels: at `smoke` and `laptop` trained first where they are missing.

    Elsewhere a line says which are, and how they are trained. None where a run draws from committed rows; raises MissingData where a
    run that measures has none.
    """
    if not study.can_measure:
        return {}
    scale = study.settings.scale.name
    wanted = [point for point in table.points(scale) if point.seed < study.settings["seeds"] and not zoo.not_applicable(point)]
    missing = [point for point in wanted if not leave_one_out.bring_together(point)]
    if missing and scale in ("smoke", "laptop"):
        jobs = int(os.environ.get("REPROLIB_JOBS", os.cpu_count() or 1))
        leave_one_out.train_points(scale, jobs, [point.name for point in missing], study.device, study.report)
        missing = [point for point in missing if not point.file.exists()]
    if missing:
        named = ", ".join(point.name for point in missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        print(f"Not trained yet, and left out: {named}: `reprolib train --scale {scale} --only '{table.PREFIX}*'`.")
    found = {point: leave_one_out.soft_labels(point) for point in wanted if point not in missing}
    if not found:
        how = (
            f"train its networks with `reprolib train --scale {scale} --only '{table.PREFIX}*'`"
            if wanted
            else "no points are trained there"
        )
        raise MissingData(f"there are no soft labels at scale {scale}: {how}")
    for point, labels in found.items():
        study.names(point.name, labels.card["sha256"])
    _measured_again(found, study.device)
    return found


def _measured_again(found: Asked, device: str) -> None:
    """Full networks that are here answer once more, on their first class: raises CorruptFile where kept soft labels are not theirs."""
    furthest = {point: away for point, labels in found.items() if (away := leave_one_out.furthest(point.full, labels, device)) is not None}
    for point, away in furthest.items():
        if away > SAME:
            raise CorruptFile(
                f"{store.shown(point.file)} differs by up to {away:.2g} from what its full network, {store.shown(point.full.path)}, answers "
                "now: restore the one from git, or delete the other"
            )
    if furthest:
        print(f"Measured again on one class: {len(furthest)} full networks of {len(found)} points, which agree to {SAME:g}.")


def role_of(point: Point) -> str:
    """The arm of a point; empty of one that is compared with capsules alone."""
    compared = {one.architecture for one in table.points(point.scale) if (one.dataset, one.recipe) == (point.dataset, point.setting.robust)}
    if point.architecture not in compared:
        return ""
    if point.recipe == point.setting.robust:
        return "robust"
    return "gauss" if point.recipe.startswith("gauss_") else ARMS.get(point.recipe, point.recipe)


def soft_label_rows(study: Study, asked: Asked, question: Question) -> pd.DataFrame:
    """Rows of every network, a row a quantity and excluded class: what the question gives, and what stands beside it.

    Raises BadInput for what is not one finite number.
    """
    several, frames = len({point.architecture for point in asked if role_of(point)}) > 1, []
    for point, labels in asked.items():
        study.report(f"{point.name}: soft labels of {len(labels.without)} classes")
        role, told = role_of(point), [*_numbers(study, point, labels, question)]
        if point.recipe == "std" and point.dataset in OF_CAPSULES:
            frames.append(_frame(point, labels, CAPSULES, point.architecture, told))
        if role:
            own = [
                (f"{name}@{point.architecture}", unit, "", value) for name, unit, _, value in told if several and name in BY_ARCHITECTURE
            ]
            frames += [
                _frame(point, labels, OWN, role, [*told, *own]),
                _frame(point, labels, "networks", role, _accuracies(point, labels, asked)),
            ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def middle_class(rows: pd.DataFrame) -> str:
    """The excluded class whose soft labels are drawn in a plane: the one of middle "dbm" by the first standard network."""
    own = rows[(rows["claim"] == OWN) & (rows["quantity"] == "dbm") & (rows["arm"] == "standard")]
    first = own[own["network"] == own.sort_values(["architecture", "seed"], kind="stable")["network"].iloc[0]]
    return str(first.sort_values(["value", "unit"], kind="stable")["unit"].iloc[len(first) // 2])


def pictures(asked: Asked, drawn_class: str) -> pd.DataFrame:
    """Rows that figures alone read: mean soft labels, the metric over temperature, and soft labels of one class in a plane."""
    frames, drawn = [], set()
    for point, labels in asked.items():
        role, found = role_of(point), classes.of_point(point, labels)
        if role:
            frames.append(_frame(point, labels, OWN, role, [*classes.mean_labels(found), *classes.over_temperature(found)]))
        elif classes.is_of_capsules(point) and point.seed == 0:
            frames.append(_frame(point, labels, CAPSULES, point.architecture, classes.mean_labels(found)))
        if role in DRAWN and role not in drawn:
            drawn.add(role)
            frames.append(_frame(point, labels, OWN, role, classes.plane(next(one for one in found if one.name == drawn_class))))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _numbers(study: Study, point: Point, labels: SoftLabels, question: Question) -> Iterator[tuple[str, str, str, float]]:
    share, neighbours = study.settings["share"], study.settings.values.get("relatives", ())
    for one, trained in zip(classes.of_point(point, labels, neighbours), labels.networks, strict=True):
        numbers = {
            **classes.beside(one, share, classes.is_of_capsules(point)),
            **classes.checked(question.__name__, one.name, dict(question(one))),
            **{name: value for name, value in (("dbi", trained["dbi"]), ("dbm_features", trained["features"])) if value is not None},
        }
        yield from ((quantity, one.name, "", value) for quantity, value in numbers.items())


def _accuracies(point: Point, labels: SoftLabels, asked: Asked) -> Told:
    """What the manipulation check reads: clean accuracy, and that under PGD in the ball of the robust network of the same seed."""
    robust = next((asked[one].card for one in asked if one == point.arms()[1]), {})
    check, numbers = robust.get("manipulation"), {"clean_accuracy": labels.card["clean"]["value"]}
    if check and point in point.arms():
        numbers["adversarial_accuracy"] = check["standard" if point.recipe == "std" else "robust"]
    return [(quantity, "test", "", value) for quantity, value in numbers.items()]


def _frame(point: Point, labels: SoftLabels, claim: str, arm: str, told: Told) -> pd.DataFrame:
    who = {
        "arm": arm,
        "recipe": point.recipe,
        "architecture": point.architecture,
        "seed": point.seed,
        "network": labels.card["sha256"][:12],
    }
    return pd.DataFrame([who | row(claim, quantity, unit, unit_2, value, True) for quantity, unit, unit_2, value in told])


def table_of(asked: Asked) -> pd.DataFrame:
    """A row a point: its arm, accuracy of the full network clean and under PGD, mean accuracy of the others on classes they know."""
    rows = []
    for point, labels in asked.items():
        check = labels.card.get("manipulation")
        rows.append(
            {
                "point": point.name.removeprefix(table.PREFIX),
                "arm": role_of(point) or point.architecture,
                "clean": f"{labels.card['clean']['value']:.1%}",
                "without a class": f"{sum(one['accuracy'] for one in labels.networks) / len(labels.networks):.1%}",
                "PGD, robust minus standard": f"{100 * check['difference']:+.0f} points" if check else "",
                "sha256": labels.card["sha256"][:12],
            }
        )
    return pd.DataFrame(rows)


def told(study: Study) -> dict[str, str]:
    """What stands over the panels of the figure of attacks: the coefficient with its interval, where there is one."""
    entry = study.verdicts["ZSQ-3"]
    parts = {"minimal_l2": entry, **{name: next(one for one in entry["parts"] if one["name"] == of) for name, of in PANELS.items()}}
    return {name: f"rho = {numbers(one)}" for name, one in parts.items() if one["estimate"] is not None}
