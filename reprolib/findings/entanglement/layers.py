"""Entanglement of every hidden layer of every network, as tidy rows: batch by batch, layer by layer, and through training.

Hidden layers are all post-activation maps and the pooled code, which is the last one. Regularised are all maps but the last; the last
map and the pooled code stay free.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from reprolib import store
from reprolib.errors import BadInput
from reprolib.findings.entanglement.batches import Batches, of_scale
from reprolib.judging.tidy import KEY, identity, rows_of
from reprolib.measures.neighbour_sums import pairs_of
from reprolib.models.grams import collect
from reprolib.models.layers import fold_batch_norm, shrunk
from reprolib.models.networks import MINE, Network
from reprolib.study import Study
from reprolib.training.states import at, snapshots

Nets = Mapping[str, Sequence[Network]]
Question = Callable[[Network, Tensor, Tensor], Mapping[str, Mapping[str, float]]]
"""Network, images (n, c, h, w) in [0, 1], classes (n,) -> layer, in the order of execution -> `QUANTITIES` of it."""
ByLayer = dict[str, dict[str, Tensor]]
"""Layer -> quantity -> float64 (batches,)."""

QUANTITIES = ("entanglement", "entanglement@pooled", "temperature", "at_bound", "spread", "spread@pooled")
"""The loss at its minimum in units of its bound, on whole maps and on maps averaged over their positions; T* over the mean distance;
whether T* is infinite; mean distance to the class mean over that between class means."""
ROLES = ("standard", "robust", "robust_linf", "gauss", "blur", "std_matched", "untrained", "entangled", "disentangled")
"""Whose layers are asked about, where the scale has them."""
LATE = ("untrained", "standard", "robust", MINE)
SPREAD = ("standard", "robust", "entangled", "disentangled", "std_matched", MINE)
"""Roles of which first and last layers are told, and of which spread is."""
ARMS = ("standard", "robust", MINE)
CURVE = 51
"""Roles of which curves over temperature are told, and at how many."""
HOTTEST = 1e3
"""Stands in rows for a temperature that is infinite, in units of the mean distance."""
SAME = 0.01  # of entanglement: processors round differently, another question differs by more
BY_EPOCH = "entanglement_by_epoch"


def networks(study: Study) -> dict[str, list[Network]]:
    """The networks of `ROLES` that the scale has, and the reader's own.

    Before any of them is measured, raises BadInput for more neighbours than the index has, and batches that there are no images for.
    """
    k, n = study.settings["n_neighbours"], study.settings["n_index"]
    if k > n:
        raise BadInput(f"n_neighbours={k} is above the {n} images of the index at scale {study.settings.scale.name}: give at most {n}")
    if study.can_measure:
        of_scale(study)
    return study.networks(*(role for role in ROLES if role in study.settings.scale.roles))


def measure(study: Study, nets: Nets, question: Question) -> pd.DataFrame:
    """Rows of ENT-9 (all roles), ENT-1 (`LATE`) and ENT-12 (`SPREAD`): means over layers, a batch a unit; and each layer, mean over batches.

    question(network, x, y) -> layer -> `QUANTITIES`. Of layers the place in the network stands in unit_2. Nothing without images.
    """
    frames: list[pd.DataFrame] = []
    for role, network in study.each(nets) if study.can_measure else ():
        used = of_scale(study)
        layers = _asked(study, network, question, used)

        def add(claim: str, quantity: str, values: Tensor, units: Sequence[str], **more: object) -> None:
            frames.append(rows_of(claim, quantity, role, network, units, values, **more))  # type: ignore[arg-type]  # noqa: B023

        table = {name: torch.stack([layer[name] for layer in layers.values()]) for name in QUANTITIES}  # (layers, batches)
        has_spread = role in SPREAD and bool(torch.stack([table[f"spread{pooled}"].isfinite() for pooled in ("", "@pooled")]).all())
        if role in SPREAD and not has_spread:
            print(
                f"{network.card['name']}: in some layer all points, or all class means, lie in one place, so that its spread is left out."
            )
        names, places = [*layers], [f"{place:02d}" for place in range(len(layers))]
        n_maps = len(names) - 1
        for pooled in ("", "@pooled"):
            values = table[f"entanglement{pooled}"]
            add("ENT-9", f"entanglement{pooled}", values.mean(dim=0), used.units)
            if role in LATE:
                add("ENT-1", f"entanglement_last{pooled}", values[-1], used.units)
                add("ENT-1", f"entanglement_first_third{pooled}", values[: max(1, n_maps // 3)].mean(dim=0), used.units)
            if has_spread:
                add("ENT-12", f"spread{pooled}", table[f"spread{pooled}"][: n_maps - 1].mean(dim=0), used.units)
        add("ENT-9", "entanglement_by_layer", table["entanglement"].mean(dim=1), names, unit_2=places)
        temperature = table["temperature"].median(dim=1).values
        add("ENT-9", "temperature_by_layer", temperature.clamp(max=HOTTEST), names, reached=temperature <= HOTTEST, unit_2=places)
        add("ENT-9", "at_bound_by_layer", table["at_bound"].mean(dim=1), names, unit_2=places)
        if has_spread:
            add("ENT-12", "spread_free", table["spread"][n_maps - 1 :].mean(dim=0), used.units)
            add("ENT-12", "entanglement_regularised", table["entanglement"][: n_maps - 1].mean(dim=0), used.units)
            add("ENT-12", "spread_by_layer", table["spread"].mean(dim=1), names, unit_2=places)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def through_training(study: Study, nets: Nets, question: Question) -> pd.DataFrame:
    """Rows of ENT-1, shown: entanglement of each layer of the first standard network, from before its training to its end.

    unit: layer; unit_2: "<place>@<epoch>". Before it: the untrained network of its seed. States of trainings are not shipped: where they
    are not here, committed rows of a training of the same recipe and seed stand in (another processor may have rounded it to other weights,
    whose hash they bear), and a line says so; none where another question is asked, or knobs turned.
    """
    standard = nets.get("standard", ())
    if not study.can_measure or not standard:
        return pd.DataFrame()
    network, used = standard[0], of_scale(study)
    files = snapshots(network)
    if len(files) < 2:
        print(f"States of the training of {network.card['name']} are not kept here: its epochs are drawn from committed rows, or left out.")
        return _committed(study, network)
    begun = [one for one in nets.get("untrained", ()) if one.card["description"]["seed"] == network.card["description"]["seed"]]
    last = max(files)
    states = {0: begun[0]} if begun else {}
    for epoch in looked_at(last):
        states[epoch] = at(network, files[epoch])
        states[epoch].sha256 = store.sha256_file(files[epoch])
    frames = []
    for epoch, state in (*states.items(), (last, network)):
        layers = _asked(study, state, question, used)
        values = torch.stack([layer["entanglement"].mean() for layer in layers.values()])
        places = [f"{place:02d}@{epoch:03d}" for place in range(len(layers))]
        frames.append(rows_of("ENT-1", BY_EPOCH, "standard", network, [*layers], values, unit_2=places))
    return pd.concat(frames, ignore_index=True)


def over_temperature(study: Study, nets: Nets) -> pd.DataFrame:
    """Rows of ENT-9, shown: the loss of the first, middle and last layer of the first network of each of `ARMS`, over temperature.

    On the first batch, in units of the bound. unit: layer; unit_2: "<place>@<log10 of the temperature>", absolute: what a fixed temperature would see of each.
    """
    frames = []
    for role in ARMS if study.can_measure else ():
        for network in nets.get(role, ())[:1]:
            x, y = next(iter(of_scale(study)))
            features = collect(fold_batch_norm(network), x, reduce=lambda a: shrunk(a).clone())
            for place in sorted({0, len(features) // 2, len(features) - 1}):
                layer, value = list(features.items())[place]
                pairs, _ = pairs_of(value.double(), y, "euclidean")
                if pairs.mean > 0:
                    logs = math.log10(pairs.mean) + torch.linspace(-3, 2, CURVE, dtype=torch.float64)
                    loss = torch.from_numpy(pairs.curve((10**logs).tolist())) / pairs.bound
                    at_each = [f"{place:02d}@{log:.3f}" for log in logs.tolist()]
                    frames.append(rows_of("ENT-9", "loss_over_temperature", role, network, [layer] * CURVE, loss, unit_2=at_each))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def looked_at(last: int) -> list[int]:
    """The epochs at which a training of `last` epochs is looked at, before its end: 1, 2, 4, 8, ..."""
    return [2**k for k in range(last.bit_length()) if 2**k < last]


def _committed(study: Study, network: Network) -> pd.DataFrame:
    """The committed rows of a training like this network's, where the network's layers were measured as they are here."""
    if study.settings.overridden or not (study.committed / "rows.csv.gz").exists():
        return pd.DataFrame()
    kept, own_name = study.committed_rows(), identity("standard", network)
    of_training = (kept[["recipe", "architecture", "seed"]] == [own_name[name] for name in ("recipe", "architecture", "seed")]).all(axis=1)
    rows = kept[(kept["claim"] == "ENT-1") & (kept["quantity"] == BY_EPOCH) & of_training]
    kept = kept[kept["network"] == network.sha256[:12]]
    try:
        measured = study.rows
    except BadInput:
        return rows  # nothing was measured that could be of another question
    own, there = (table[(table["claim"] == "ENT-9") & (table["quantity"] == "entanglement_by_layer")] for table in (measured, kept))
    both = own[own["network"] == network.sha256[:12]].merge(there, on=KEY, how="left", suffixes=("", "_committed"))
    if both["value_committed"].isna().any() or (both["value"] - both["value_committed"]).abs().max() > SAME:
        print("Other numbers are asked of layers here than in the committed rows: none of these stand in for epochs.")
        return rows.iloc[:0]
    return rows


def _asked(study: Study, network: Network, question: Question, batches: Batches) -> ByLayer:
    """The answers of one network, kept under it, the batches, and the question's code with all that it calls."""

    def compute() -> dict[str, Tensor]:
        study.report(f"{network.card['name']}: {question.__name__}, {len(batches)} batches of {batches.n}")
        layers = folded(question, network, batches)
        if len(layers) < 3:
            raise BadInput(f"{question.__name__} gives {len(layers)} layers: at least two maps and the pooled code are needed")
        return {f"{place:02d}|{layer}|{name}": of[name] for place, (layer, of) in enumerate(layers.items()) for name in QUANTITIES}

    described = {"network": network.sha256, **batches.describe()}
    layers: ByLayer = {}
    for key, values in sorted(store.cache("entanglement", described, compute, functools.partial(folded, question)).items()):
        layer, _, name = key.partition("|")[2].rpartition("|")
        if name.startswith("entanglement") and not bool(values.isfinite().all()):
            raise BadInput(f"{question.__name__} gives {name} of layer {layer} that are not finite: look at the network's weights")
        layers.setdefault(layer, {})[name] = values
    return layers


def folded(question: Question, network: Network, batches: Batches) -> ByLayer:
    """What is asked of a network whose BatchNorm its convolutions absorb, batch by batch."""
    asked, found = fold_batch_norm(network), list[Mapping[str, Mapping[str, float]]]()
    for x, y in batches:
        found.append(question(asked, x, y))
    return {layer: {name: torch.tensor([float(of[layer][name]) for of in found], dtype=torch.float64) for name in of_layer}
            for layer, of_layer in found[0].items()}  # fmt: skip
