"""Somebody else's pair through the comparison of layers: told in numbers beside ours, in no claim's rows, kept where its files are not."""

import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from inverses import planted_set
from layers import carded, compared, planted_study

from reprolib.errors import BadInput
from reprolib.findings.block_structure import committed, external
from reprolib.findings.block_structure import figures as plots
from reprolib.findings.block_structure.batches import batches
from reprolib.findings.block_structure.external import external_table
from reprolib.findings.block_structure.networks import Compared
from reprolib.judging.tidy import rounded, write_rows
from reprolib.measures.indices import off_diagonal_mean, same_depth_mean
from reprolib.models.grams import minibatch_cka
from reprolib.models.public_networks import RESNET20, build_public


def random_resnet20(seed, recipe):
    network = build_public(RESNET20).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            is_scale = name.endswith(("running_var", "std", "bn.weight"))
            tensor.copy_(torch.ones_like(tensor) if is_scale else 0.1 * torch.randn(tensor.shape, generator=generator))
    network.eval().requires_grad_(False)
    network.sha256 = hashlib.sha256(recipe.encode()).hexdigest()
    network.card = {"name": recipe, "description": {"recipe": {"id": recipe}, "architecture": "resnet20", "seed": 0}}
    return network


@pytest.fixture(scope="module")
def pair():
    return {external.STANDARD: random_resnet20(0, "ehanw_std"), external.ROBUST: random_resnet20(1, "ehanw_pgd")}


@pytest.fixture(scope="module")
def used():
    return batches(planted_set(60, 32), 20, 3)


@pytest.fixture(scope="module")
def rows(pair, used):
    return rounded(pd.concat(external.rows_of_pair(pair, used, compared), ignore_index=True))


def test_every_layer_of_both_is_measured_and_no_claim_reads_the_rows(rows):
    assert set(rows["claim"]) == {"external"}
    own = rows[rows["quantity"] == "hsic"]
    assert own.groupby("arm").size().to_dict() == {"external_standard": 210, "external_robust": 210}  # 20 layers, batches in one


def test_the_table_tells_what_the_measures_give(rows, pair, used):
    table = external_table(rows).set_index("CKA")
    matrices = {arm: minibatch_cka(network, used).matrix() for arm, network in pair.items()}
    told = table.loc["off-diagonal mean"]
    assert told["standard"] == pytest.approx(off_diagonal_mean(matrices["external_standard"]), abs=2e-3)
    assert told["robust"] == pytest.approx(off_diagonal_mean(matrices["external_robust"]), abs=2e-3)
    assert told["difference, or the two together"] == pytest.approx(told["robust"] - told["standard"], abs=2e-3)
    across = minibatch_cka(pair["external_standard"], used, pair["external_robust"]).matrix()
    assert table.loc[external.EQUAL_DEPTH, "difference, or the two together"] == pytest.approx(same_depth_mean(across), abs=2e-3)


def test_the_maps_are_drawn_and_refused_without_the_pair(rows):
    figure = plots.external_maps(rows)
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert [title.splitlines()[0] for title in titles] == ["standard", "robust", "standard with robust"]
    assert np.shape(figure.axes[0].images[0].get_array()) == (20, 20)
    with pytest.raises(BadInput, match="no external networks"):
        plots.external_maps(rows.iloc[:0])
    assert external_table(rows.iloc[:0]).empty


def test_without_the_files_the_committed_rows_stand_in(rows, tmp_path):
    write_rows(tmp_path / "rows.csv.gz", rows)
    study = planted_study(tmp_path)
    assert set(committed.external(Compared(study, {}, {}))["claim"]) == {"external"}
    assert external.measure(Compared(study, {}, {}), compared).empty  # of other images than those it was trained on


def of_pair(network, claims=("BLK-5", "overfitting", "networks")):
    quantity = {"BLK-5": "epochs", "overfitting": "train_accuracy", "networks": "clean_accuracy"}
    who = {"arm": "standard", "recipe": "std_5k", "architecture": "tinycnn", "seed": 0, "network": network.sha256[:12]}
    who |= {"unit": "", "unit_2": "", "value": 0.5, "reached": True}
    return pd.DataFrame([{"claim": claim, "quantity": quantity[claim]} | who for claim in claims])


ONE, AGAIN, OTHER = carded(0, "std_5k"), carded(0, "std_5k", weights=5), carded(1, "std_5k", weights=6)


@pytest.mark.parametrize(
    ("here", "unmeasured", "carried"),
    [
        ([ONE], [ONE], ["BLK-5", "overfitting"]),  # here, without the states of its training
        ([ONE], [], []),
        ([AGAIN], [AGAIN], []),  # trained again: the committed rows are of another network
        ([OTHER], [OTHER], ["BLK-5", "networks", "overfitting"]),  # not here at all: with its card
        ([], [], ["BLK-5", "networks", "overfitting"]),
    ],
)
def test_the_pair_that_overfits_stays_unless_it_was_trained_again(here, unmeasured, carried, tmp_path):
    write_rows(tmp_path / "rows.csv.gz", of_pair(ONE))
    nets = Compared(planted_study(tmp_path), {}, {}, overfit={"standard": here})
    assert sorted(committed.of_pair(nets, unmeasured)["claim"]) == carried
