"""Batches, and entanglement of planted networks as rows: what is averaged over what, who has which rows, and what stands in for epochs."""

import dataclasses
from types import SimpleNamespace

import pandas as pd
import problems
import pytest
import torch
from inverses import planted_set
from layers import carded, keep_states

from reprolib import parameters
from reprolib.data import shapetexture
from reprolib.data.images import images as labelled
from reprolib.errors import BadInput
from reprolib.findings.entanglement import layers
from reprolib.findings.entanglement.batches import batches, of_scale
from reprolib.judging.tidy import rounded, write_rows
from reprolib.measures.entangled_layers import entanglements, spread_ratio, squared_distances
from reprolib.measures.soft_nearest_neighbor import entanglement
from reprolib.models.grams import collect, spatial_mean
from reprolib.models.layers import shrunk
from reprolib.models.mine import Own
from reprolib.models.networks import weights_sha256


def entanglement_of_layers(network, x, y):
    """The question of the notebook."""
    maps = collect(network, x, reduce=lambda a: (squared_distances(shrunk(a)), squared_distances(spatial_mean(a))))
    whole, pooled = (torch.stack(distances) for distances in zip(*maps.values(), strict=True))
    least = entanglements(whole, y)
    numbers = {"entanglement": least.share, "temperature": least.relative_temperature, "at_bound": least.at_bound}
    numbers |= {
        "entanglement@pooled": entanglements(pooled, y).share,
        "spread": spread_ratio(whole, y),
        "spread@pooled": spread_ratio(pooled, y),
    }
    return {layer: {name: float(of[k]) for name, of in numbers.items()} for k, layer in enumerate(maps)}


def tinted(n=96):
    """Planted images, each class of a tint of its own, so that no layer is at its bound."""
    plain = planted_set(n)
    colour = torch.randint(0, 128, (4, 3, 1, 1), generator=problems.generator(9))
    return labelled((plain.x // 2 + colour[plain.y]).to(torch.uint8), plain.y, plain.classes, "tinted")


class Planted(SimpleNamespace):
    """What measuring asks of a study; a kind of its own, as studies are told apart by who they are."""

    __hash__ = object.__hash__

    def each(self, nets):
        return ((role, network) for role, networks in nets.items() for network in networks)

    @property
    def rows(self):
        if self.added is None:
            raise BadInput("there are no rows yet")
        return self.added


def study(folder=None, images=None, **values):
    settings = parameters.validate("entanglement", {"scale": "smoke", "n_batches": 3})
    settings = parameters.Settings(settings.finding, settings.scale, dict(settings.values) | {"n_per_class": 4} | values, {}, "cpu", "off")
    images = tinted() if images is None else images
    return Planted(
        can_measure=True, settings=settings, device="cpu", committed=folder, added=None, report=lambda line: None,
        images=lambda split: images, reads=lambda images: images, committed_rows=lambda: pd.read_csv(folder / "rows.csv.gz", keep_default_na=False),
    )  # fmt: skip


# --- batches


def test_batches_are_disjoint_balanced_and_their_first_images_too():
    images = planted_set(96)
    used = batches(images, 4, 3)
    assert (len(used), used.n, used.units) == (3, 16, ["00", "01", "02"])
    seen = torch.cat([x for x, _ in used])
    assert len(seen.flatten(1).unique(dim=0)) == 48
    for (x, y), labels in zip(used, used.labels, strict=True):
        assert y.bincount().tolist() == [4, 4, 4, 4]
        assert y[:8].bincount().tolist() == [2, 2, 2, 2]
        assert torch.equal(y, labels)
        assert 0 <= x.min() <= x.max() <= 1
    for k in range(4):  # in the set's order
        assert torch.equal(used.images.x[used.images.y == k], images.x[images.y == k][:12])
    half = used.first(8)
    assert (half.n, len(half)) == (8, 3)
    for (x, y), (few_x, few_y) in zip(used, half, strict=True):
        assert torch.equal(x[:8], few_x)
        assert torch.equal(y[:8], few_y)
    assert used.first(200).describe() == used.describe() != half.describe()


def test_too_few_images_of_a_class_are_refused_with_what_there_can_be():
    images = planted_set(96)
    with pytest.raises(
        BadInput, match=r"3 disjoint batches of 9 images a class need 27 of each, planted has 24 of 'a': at most n_batches=2"
    ):
        batches(images, 9, 3)
    for n_per_class, count in ((1, 3), (4, 0)):
        with pytest.raises(BadInput, match="give at least one batch, and two images a class"):
            batches(images, n_per_class, count)
    with pytest.raises(BadInput, match=r"batches of 7 images hold 4 classes: at least two images of each are needed"):
        batches(images, 4, 3).first(7)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"n_neighbours": 161}, "n_neighbours=161 is above the 160 images of the index at scale smoke: give at most 160"),
        ({"n_per_class": 9}, r"3 disjoint batches of 9 images a class need 27 of each, .* has 24 of 'a': at most n_batches=2"),
    ],
)
def test_knobs_that_the_images_do_not_allow_are_refused_before_any_network_is_read(knobs, words, monkeypatch):
    asked = study(**knobs)
    if "n_per_class" in knobs:  # of a procedural set more would be rendered
        scale = dataclasses.replace(asked.settings.scale, dataset="cifar10")
        asked.settings = dataclasses.replace(asked.settings, scale=scale)
    monkeypatch.setattr(asked, "networks", lambda *roles: pytest.fail("networks are loaded"), raising=False)
    with pytest.raises(BadInput, match=words):
        layers.networks(asked)


def test_of_a_procedural_set_more_images_are_rendered_where_the_test_images_are_too_few():
    name = "shapetexture_gratings"
    test = shapetexture.load(name, "test")
    used = of_scale(study(images=test, n_per_class=11, n_batches=5))  # 220 of 200
    world = shapetexture.world_of(name, "test")
    wanted = labelled(*(getattr(shapetexture.render(world, range(220)), what) for what in ("image", "y")), test.classes, name)
    assert used.describe() == batches(wanted, 11, 5).describe()
    few = of_scale(study(images=test))
    assert torch.equal(few.images.x, test.x[:48])


# --- rows


def nets():
    return {
        "standard": [carded(0), carded(1)], "robust": [carded(0, "l2_075", weights=10)], "gauss": [carded(0, "gauss_20", weights=20)],
        "untrained": [carded(0, "untrained", weights=30)],
    }  # fmt: skip


@pytest.fixture(scope="module")
def measured():
    return rounded(layers.measure(study(), nets(), entanglement_of_layers))


def of(rows, claim, quantity, arm, seed=0):
    found = rows[(rows["claim"] == claim) & (rows["quantity"] == quantity) & (rows["arm"] == arm) & (rows["seed"] == seed)]
    return found.sort_values(["unit_2", "unit"])["value"].tolist()


def test_rows_are_means_over_layers_of_what_the_formulas_give_batch_by_batch(measured):
    network, used = carded(1), batches(tinted(), 4, 3)
    share, pooled, spread = [], [], []
    for x, y in used:
        maps = collect(network, x, reduce=torch.clone)
        assert [*maps] == ["conv1", "conv2", "conv3", "pooled"]
        share.append([entanglement(shrunk(value), y).share for value in maps.values()])
        pooled.append([entanglement(spatial_mean(value), y).share for value in maps.values()])
        spread.append([float(spread_ratio(squared_distances(shrunk(value)), y)) for value in maps.values()])
    share, pooled, spread = (torch.tensor(values, dtype=torch.float64) for values in (share, pooled, spread))
    for claim, quantity, values in (
        ("ENT-9", "entanglement", share.mean(dim=1)), ("ENT-9", "entanglement@pooled", pooled.mean(dim=1)),
        ("ENT-9", "entanglement_by_layer", share.mean(dim=0)), ("ENT-1", "entanglement_last", share[:, 3]),
        ("ENT-1", "entanglement_last@pooled", pooled[:, 3]), ("ENT-1", "entanglement_first_third", share[:, 0]),
        ("ENT-1", "entanglement_first_third@pooled", pooled[:, 0]), ("ENT-12", "spread", spread[:, :2].mean(dim=1)),
        ("ENT-12", "spread_free", spread[:, 2:].mean(dim=1)), ("ENT-12", "entanglement_regularised", share[:, :2].mean(dim=1)),
        ("ENT-12", "spread_by_layer", spread.mean(dim=0)),
    ):  # fmt: skip
        assert of(measured, claim, quantity, "standard", 1) == pytest.approx(values.tolist(), rel=5e-4, abs=2e-4), quantity


def test_each_role_has_the_rows_that_claims_and_figures_read(measured):
    everyone, late, spread = {"standard", "robust", "gauss", "untrained"}, {"standard", "robust", "untrained"}, {"standard", "robust"}
    arms = measured.groupby(["claim", "quantity"])["arm"].agg(set).to_dict()
    for (claim, quantity), found in arms.items():
        assert found == {"ENT-9": everyone, "ENT-1": late, "ENT-12": spread}[claim], quantity
    by_layer = measured[(measured["quantity"] == "entanglement_by_layer") & (measured["arm"] == "robust")]
    assert by_layer.set_index("unit_2")["unit"].to_dict() == {"00": "conv1", "01": "conv2", "02": "conv3", "03": "pooled"}


def test_an_infinite_temperature_is_told_as_such_and_a_dead_layer_stops_nothing(capsys):
    dead = carded(0)
    with torch.no_grad():
        dead.convs[1].bn.weight[:], dead.convs[1].bn.bias[:] = 0, -1
    dead.sha256 = weights_sha256(dead)
    rows = rounded(layers.measure(study(), {"standard": [dead]}, entanglement_of_layers))
    told = rows[rows["quantity"] == "temperature_by_layer"].set_index("unit")
    assert told.loc["conv2", "value"] == layers.HOTTEST
    assert not told.loc["conv2", "reached"]
    assert rows[rows["quantity"] == "at_bound_by_layer"].set_index("unit").loc["conv2", "value"] == 1
    assert rows[rows["quantity"] == "entanglement_by_layer"].set_index("unit").loc["conv2", "value"] == 1
    assert "ENT-12" not in set(rows["claim"])
    assert (
        "tinycnn-std-s0: in some layer all points, or all class means, lie in one place, so that its spread is left out"
        in capsys.readouterr().out
    )


def test_a_network_is_asked_once_and_anew_where_images_or_question_are_others():
    def other(network, x, y):
        return entanglement_of_layers(network, x, y)

    told, asked = [], {"gauss": [carded(5)]}
    first, again, few = study(), study(), study(n_batches=2)
    for one in (first, again, few):
        one.report = told.append
    rows = layers.measure(first, asked, entanglement_of_layers)
    assert rows.equals(layers.measure(again, asked, entanglement_of_layers))
    assert told == ["tinycnn-std-s5: entanglement_of_layers, 3 batches of 16"]
    layers.measure(few, asked, entanglement_of_layers)
    assert rows.equals(layers.measure(first, asked, other))
    assert told[1:] == ["tinycnn-std-s5: entanglement_of_layers, 2 batches of 16", "tinycnn-std-s5: other, 3 batches of 16"]


def test_a_readers_own_network_of_other_classes_has_all_rows_and_no_images_no_rows():
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3), torch.nn.ReLU(), torch.nn.Conv2d(5, 6, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(864, 7)
    )
    for k, weight in enumerate(model.parameters()):
        torch.nn.init.normal_(weight, std=0.2, generator=problems.generator(k))
    own = Own(model, planted_set(8).x[:2] / 255, 4)
    rows = rounded(layers.measure(study(), {"mine": [own]}, entanglement_of_layers))
    assert set(rows["claim"]) == {"ENT-9", "ENT-1", "ENT-12"}
    assert len(layers.over_temperature(study(), {"mine": [own]})) == 3 * layers.CURVE
    blind = study()
    blind.can_measure = False
    for measure in (layers.measure, layers.through_training):
        assert measure(blind, nets(), entanglement_of_layers).empty
    assert layers.over_temperature(blind, nets()).empty


def test_a_question_that_gives_no_number_is_refused():
    def nothing(network, x, y):
        return {layer: dict.fromkeys(layers.QUANTITIES, torch.nan) for layer in ("a", "b", "c")}

    def few(network, x, y):
        return {"a": dict.fromkeys(layers.QUANTITIES, 1.0)}

    with pytest.raises(BadInput, match="nothing gives entanglement of layer a that are not finite"):
        layers.measure(study(), {"standard": [carded(0)]}, nothing)
    with pytest.raises(BadInput, match="few gives 1 layers: at least two maps and the pooled code are needed"):
        layers.measure(study(), {"standard": [carded(0)]}, few)


# --- through training


@pytest.fixture
def own_zoo(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROLIB_ZOO", str(tmp_path / "zoo"))
    return tmp_path


def test_a_training_is_looked_at_from_before_its_start_to_its_end_ever_more_seldom(own_zoo, measured):
    assert layers.looked_at(8) == [1, 2, 4]
    assert layers.looked_at(12) == [1, 2, 4, 8]
    keep_states(carded(0), 3)
    rows = rounded(layers.through_training(study(), nets(), entanglement_of_layers))
    assert set(rows["unit_2"].str.partition("@")[2]) == {"000", "001", "002", "003"}
    assert set(rows["network"]) == {carded(0).sha256[:12]}
    by_epoch = {
        epoch: rows[rows["unit_2"].str.endswith(f"@{epoch}")].sort_values("unit_2")["value"].tolist() for epoch in ("000", "001", "003")
    }
    assert by_epoch["000"] == pytest.approx(of(measured, "ENT-9", "entanglement_by_layer", "untrained"), abs=1e-4)
    assert by_epoch["003"] == pytest.approx(of(measured, "ENT-9", "entanglement_by_layer", "standard"), abs=1e-4)
    assert by_epoch["001"] != pytest.approx(by_epoch["003"], abs=0.01)
    assert max(by_epoch["003"]) < 0.95


def test_without_states_committed_rows_of_the_same_network_and_question_stand_in(own_zoo, measured, capsys):
    keep_states(carded(0), 3)
    epochs = layers.through_training(study(), nets(), entanglement_of_layers)
    write_rows(own_zoo / "rows.csv.gz", rounded(pd.concat([measured, epochs])))
    for path in (own_zoo / "snapshots").rglob("*.safetensors"):
        path.unlink()
    used = study(own_zoo)
    used.added = measured
    found = layers.through_training(used, nets(), entanglement_of_layers)
    assert found.sort_values("unit_2")["value"].tolist() == pytest.approx(epochs.sort_values("unit_2")["value"].tolist())
    assert "States of the training of tinycnn-std-s0 are not kept here" in capsys.readouterr().out
    assert layers.through_training(used, nets() | {"standard": [carded(1)]}, entanglement_of_layers).empty  # of another seed
    used.added = measured.assign(value=measured["value"] + 0.1)
    assert layers.through_training(used, nets(), entanglement_of_layers).empty  # another question
    turned = study(own_zoo)
    turned.settings = parameters.Settings(
        turned.settings.finding, turned.settings.scale, turned.settings.values, {"n_batches": 2}, "cpu", "off"
    )
    assert layers.through_training(turned, nets(), entanglement_of_layers).empty


def test_curves_over_temperature_touch_the_minimum_and_end_at_the_bound(measured):
    rows = layers.over_temperature(study(), nets())
    assert set(rows["arm"]) == {"standard", "robust"}
    own = rows[(rows["arm"] == "standard") & (rows["unit"] == "conv1")]
    x, y = next(iter(batches(tinted(), 4, 3)))
    least = entanglement(shrunk(collect(carded(0), x, ["conv1"], reduce=torch.clone)["conv1"]), y)
    assert own["value"].min() == pytest.approx(least.share, abs=5e-3)
    assert least.share < 0.9
    assert own["value"].iloc[-1] == pytest.approx(1, abs=0.02)
