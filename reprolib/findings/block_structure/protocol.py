"""The whole protocol of the finding: networks and images in, tidy rows out; figures and explorer are drawn from rows alone."""

from __future__ import annotations

from functools import cache, partial

import pandas as pd
import torch
from torch import Tensor

from reprolib import data, store
from reprolib.data import Images
from reprolib.errors import BadInput, MissingData
from reprolib.findings.block_structure import attacking, external, overfitting, sweeping, tidying
from reprolib.findings.block_structure.attacking import Attack
from reprolib.findings.block_structure.batches import N_ESTIMATED, Batches, batches, far_end, wide_batches
from reprolib.findings.block_structure.comparing import PLAIN, compare, rotate
from reprolib.findings.block_structure.networks import ARMS, DEEP, FASHION, Compared, Nets, seed_of
from reprolib.findings.block_structure.settling import settle
from reprolib.findings.block_structure.states import untrained
from reprolib.findings.block_structure.tidying import ADVERSARIAL, DEPTH, FITTED, OVERFITTING, RADII, SETTLING, SHOWN
from reprolib.measures.cka import BatchHSIC
from reprolib.models import external as pair
from reprolib.models.networks import Network
from reprolib.perturb.attacks import adversarial_accuracy
from reprolib.study import Study
from reprolib.training.recipes import recipe

ATTACKED = (*ARMS, "gauss")
"""Roles of the scale's own architecture whose adversarial features are compared: the control of those of the deep networks."""

FROM_STATES = ((SETTLING, "hsic_states"), (SHOWN, "cka"))
"""Claims and quantities measured on states of trainings, which are not shipped with the networks; all of the pair that overfits is."""

N_CHOOSING, N_MEASURING = 500, 1000
"""Test images, from their end, on which the best state of an overfitting network is chosen, and those on which its fall is measured."""


def run(study: Study, nets: Compared) -> pd.DataFrame:
    """Tidy rows of the whole protocol; where the images are absent, the committed ones.

    A role without networks is left out, with every row it would have; so are states of trainings that were not kept here,
    unless committed rows of the same networks stand in for them.
    """
    if not study.can_measure:
        return study.committed_rows()
    plain: dict[str, BatchHSIC] = {}
    frames = [*_depth(study, nets.deep, plain), *_radii(study, nets, plain), *_attacked(study, nets), *_settled(study, nets.deep)]
    frames += [*_overfitted(study, nets.overfit), *_cards(study, nets), *_sizes(study, nets.deep), *_external(study)]
    rows = pd.concat(frames, ignore_index=True).drop_duplicates(["claim", "quantity", "arm", "network", "unit", "unit_2"])
    return pd.concat([rows, _carried_over(study, rows)], ignore_index=True)


def _everyone(nets: Nets) -> list[tuple[str, Network]]:
    return [(role, network) for role in nets for network in nets[role]]


def _arms(nets: Nets) -> list[tuple[str, Network]]:
    return [(role, network) for role, network in _everyone(nets) if role in ARMS]


def _depth(study: Study, deep: Nets, plain: dict[str, BatchHSIC]) -> list[pd.DataFrame]:
    """All that concerns layers of the deep networks: of both arms in full, of the others the plain HSICs, which `plain` keeps."""
    arms = _arms(deep)
    frames: list[pd.DataFrame] = []
    if arms:
        networks, pairs = [network for _, network in arms], tidying.pairs_of(arms, seed_of)
        found = compare(networks, pairs, _batches(study), True, study.report)
        plain.update({network.sha256: own[PLAIN] for network, own in zip(networks, found.within, strict=True)})
        for k, (role, network) in enumerate(arms):
            frames += tidying.depth_rows(role, network, found, k)
        frames += tidying.pair_rows(arms, found)
        wide = wide_batches(study, max(network.n_features for network in networks))
        if wide is not None:
            frames += tidying.rotated_rows(arms, rotate(networks, pairs, wide, study.report))
    others = {role: deep[role] for role in deep if role not in ARMS}
    return frames + _plain(study, DEPTH, others, plain)


def _radii(study: Study, nets: Compared, plain: dict[str, BatchHSIC]) -> list[pd.DataFrame]:
    """The plain HSICs of every role in the scale's own architecture, and of the second data set's networks."""
    frames = _plain(study, RADII, nets.main, plain)
    second = _second_images(study) if any(nets.fashion.values()) else None
    return frames + (_plain(study, RADII, nets.fashion, plain, second, "hsic@fashion") if second is not None else [])


def _plain(
    study: Study, claim: str, nets: Nets, plain: dict[str, BatchHSIC], images: Images | None = None, quantity: str = PLAIN
) -> list[pd.DataFrame]:
    """Rows of the plain HSICs of every network; `plain`: those that are measured already, by sha256."""
    frames = []
    for role, network in _everyone(nets):
        if network.sha256 not in plain:
            plain[network.sha256] = compare([network], [], _batches(study, images), False, study.report).within[0][PLAIN]
        frames.append(tidying.plain_rows(claim, role, network, plain[network.sha256], quantity))
    return frames


def _batches(study: Study, images: Images | None = None) -> Batches:
    """The batches on which layers are compared."""
    return batches(images or study.images("test"), study.settings["batch_size"], study.settings["n_batches"], study.device)


def _state_batches(study: Study) -> Batches:
    """The batches on which states of one network are compared: more states than networks, so fewer images."""
    return batches(study.images("test"), study.settings["state_batch_size"], study.settings["state_batches"], study.device)


def _second_images(study: Study) -> Images | None:
    try:
        return data.load(FASHION, "test")
    except MissingData as error:
        print(f"{FASHION} is left out: {error}")
        return None


def _attacked(study: Study, nets: Compared) -> list[pd.DataFrame]:
    """Adversarial features: of the deep arms in every kind, of the scale's own architecture the attack alone; one network controls."""
    used, scale = _state_batches(study), study.settings.scale
    how_deep, how_main = _attack(study, study.settings["robust"]), _attack(study, scale.roles["robust"])
    deep, main = ({role: there[role] for role in roles if there.get(role)} for roles, there in ((ARMS, nets.deep), (ATTACKED, nets.main)))
    main |= {role: main[role][:1] for role in main if role not in ARMS}
    found = attacking.stays(deep, used, how_deep, attacking.MOVED, study.report)
    done = {network.sha256: one for role in deep for network, one in zip(deep[role], found[role], strict=True)}
    frames = [
        frame for role, network in _everyone(deep) for frame in tidying.attacked_rows(ADVERSARIAL, role, network, done[network.sha256])
    ]
    done = done if how_deep == how_main else {}
    rest = {role: [network for network in main[role] if network.sha256 not in done] for role in main}
    again = attacking.stays(rest, used, how_main, attacking.MOVED[:1], study.report)
    done |= {network.sha256: one for role in rest for network, one in zip(rest[role], again[role], strict=True)}
    for role, network in _everyone(main):
        frames += tidying.attacked_rows(RADII, role, network, done[network.sha256].only(attacking.MOVED[:1]))
    return frames


def _attack(study: Study, robust: str) -> Attack:
    """The attack in the ball of a robust recipe, or at the radius that the reader asks for."""
    how = recipe(robust)
    if how.norm is None:
        raise BadInput(f"recipe {robust!r} of the robust networks is not adversarial: it has no radius to attack at")
    return Attack(how.norm, study.settings["attack_eps"] or how.eps, study.settings["attack_steps"])


def _settled(study: Study, deep: Nets) -> list[pd.DataFrame]:
    """Epochs against the last, of the networks of both arms whose states were kept here; a line says which were not."""
    used = _state_batches(study)
    frames, absent = [], []
    fresh: dict[int, Network] = {}  # by seed: both arms begin with the same weights

    @cache
    def training() -> Tensor:
        return study.first_training_images(N_ESTIMATED).x[:N_ESTIMATED]

    def initial(network: Network) -> Network:
        if seed_of(network) not in fresh:
            fresh[seed_of(network)] = untrained(network, training(), study.device)
        return fresh[seed_of(network)]

    for role, network in _arms(deep):
        found = settle(network, used, partial(initial, network), study.report)
        if found is None:
            absent.append(network.card["name"])
        else:
            frames += tidying.settled_rows(role, network, found)
    if absent:
        print(f"States of the training are not kept here of {', '.join(absent)}: BLK-7 is judged from committed rows, or without them.")
    return frames


def _overfitted(study: Study, nets: Nets) -> list[pd.DataFrame]:
    if not all(nets.get(role) for role in ARMS):
        return []
    used, how = _state_batches(study), _attack(study, study.settings["robust"])
    test = study.images("test")
    held_out = far_end(test, N_CHOOSING), far_end(test, N_MEASURING, skip=N_CHOOSING)
    found = overfitting.overfit(nets, used, *held_out, lambda: study.images("train"), how, study.report)
    return [frame for role in found for one in found[role] for frame in tidying.overfitted_rows(role, one)]


def _cards(study: Study, nets: Compared) -> list[pd.DataFrame]:
    """Every network's accuracies in the ball its arms are compared in: that of the deep robust networks, or the scale's own."""
    robust, scale = recipe(study.settings["robust"]), study.settings.scale
    deep = {network.sha256 for there in (nets.deep, nets.overfit) for role in there for network in there[role]}
    balls = {True: (robust.norm or scale.norm, robust.eps), False: (scale.norm, scale.eps)}
    frames = []
    for role, network in (one for there in (nets.deep, nets.overfit, nets.main) for one in _everyone(there)):
        norm, eps = balls[network.sha256 in deep]

        def measured(one: Network, norm: str = norm, eps: float = eps) -> float:
            return _under_attack(study, one, norm, eps)

        frames.append(tidying.card_rows(role, network, norm, eps, measured))
    return frames


def _under_attack(study: Study, network: Network, norm: str, eps: float) -> float:
    """Adversarial accuracy as on a card (PGD-20, 3 restarts, the scale's first test images), of a ball that the card does not have."""
    images, n = study.images("test"), study.settings.scale.n_test
    described = {"network": network.sha256, "data": images.sha256, "n": n, "norm": norm, "eps": eps}

    def compute() -> dict[str, Tensor]:
        study.report(f"{network.card['name']}: under attack at {norm} {eps:.3g}")
        x, y = images.x[:n].to(study.device).float() / 255, images.y[:n].to(study.device)
        value = adversarial_accuracy(network, x, y, norm, eps, precision=network.card["training"]["precision"]).value
        return {"value": torch.tensor(value, dtype=torch.float64)}

    return float(store.cache("under_attack", described, compute)["value"])


def _sizes(study: Study, deep: Nets) -> list[pd.DataFrame]:
    """What batch size does to CKA: of independent Gaussians, and of the first network of each deep role."""
    frames = [tidying.gaussian_rows(sweeping.independent_gaussians())]
    for role in DEEP:
        for network in deep.get(role, ())[:1]:
            found = sweeping.batch_sizes(network, study.images("test"), study.device, report=study.report)
            frames.append(tidying.size_rows(role, network, found))
    return frames


def _external(study: Study) -> list[pd.DataFrame]:
    """Somebody else's pair, where the study is of the images it was trained on."""
    if study.settings.scale.dataset != pair.DATASET:
        return []
    return external.measure(pair.networks(study.device), _batches(study), study.report)


def _carried_over(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """Committed rows of what is not here: states of trainings, the pair that overfits, and somebody else's networks.

    Of a network that was trained again since, nothing is carried over. None in a run with a turned knob.
    """
    if study.settings.overridden or not (study.folder / "rows.csv.gz").exists():
        return rows.iloc[:0]
    committed = study.committed_rows()
    missing = ~_found_in(rows, committed, ["claim", "quantity", "network"])
    here = committed["network"].isin(rows["network"])
    replaced = ~here & _found_in(rows, committed, ["recipe", "architecture", "seed"])
    of_pair = committed["claim"].isin([OVERFITTING, FITTED])
    absent_pair = committed["network"].isin(committed.loc[of_pair & ~here & ~replaced, "network"])
    of_states = of_pair | pd.Series(pd.MultiIndex.from_frame(committed[["claim", "quantity"]]).isin(FROM_STATES), committed.index)
    theirs = (committed["claim"] == pair.CLAIM) & (not (rows["claim"] == pair.CLAIM).any())
    return committed[theirs | missing & here & of_states | absent_pair]


def _found_in(rows: pd.DataFrame, committed: pd.DataFrame, key: list[str]) -> pd.Series:
    there = pd.MultiIndex.from_frame(committed[key].astype(str)).isin(pd.MultiIndex.from_frame(rows[key].astype(str)))
    return pd.Series(there, committed.index)
