"""Rows of HSICs give back every similarity, index and interval; rows that lack something are refused."""

import numpy as np
import pandas as pd
import pytest

from reprolib.errors import BadInput
from reprolib.findings.block_structure import hsic_rows
from reprolib.measures import indices
from reprolib.measures import quantities as q
from reprolib.measures.cka import BatchHSIC


def random_hsic(seed, n_batches=6, n_x=4, n_y=None, n=50):
    """HSICs of random features: of a network with itself, or of two."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_batches, n_x, 8)) * np.exp(rng.normal(size=(1, n_x, 1)))
    y = x if n_y is None else rng.normal(size=(n_batches, n_y, 8)) + x[:, :1]
    own = [np.square(side).sum(axis=-1) for side in (x, y)]
    return BatchHSIC(np.full(n_batches, n), np.einsum("bip,bjp->bij", x, y), *own, ("",) * n_batches)


def shuffled(table):
    return table.sample(frac=1, random_state=0)


def test_rows_of_a_network_give_back_every_index_and_its_interval():
    one = random_hsic(0)
    table = hsic_rows.of_network(one)
    assert list(table.columns) == ["unit", "unit_2", "value"]
    assert len(table) == 6 * 4 * 5 / 2
    again = hsic_rows.network(shuffled(table))
    assert again.ids == tuple(f"batch {b:03d}" for b in range(6))
    np.testing.assert_allclose(again.matrix(), one.matrix(), atol=1e-12)
    for index in (indices.off_diagonal_mean, indices.effective_rank):
        found, expected = (q.of_index("network", index, hsic) for hsic in (again, one))
        assert found.value == pytest.approx(expected.value)
        np.testing.assert_allclose(found.draws, expected.draws, atol=1e-9)


def test_the_mean_of_the_rows_of_a_layer_pair_is_its_cka():
    one = random_hsic(0)
    means = hsic_rows.of_network(one).groupby("unit_2")["value"].mean()
    assert means["2|2"] == pytest.approx(1)
    assert means["1|3"] == pytest.approx(one.matrix()[1, 3])


def test_the_pixels_are_a_further_layer():
    everything = random_hsic(1, n_x=5)
    layers = BatchHSIC(everything.n, everything.cross[:, :4, :4], everything.own_x[:, :4], everything.own_x[:, :4], everything.ids)
    pixels = BatchHSIC(everything.n, everything.cross[:, :4, 4:], everything.own_x[:, :4], everything.own_x[:, 4:], everything.ids)
    found = hsic_rows.with_pixels(hsic_rows.of_network(layers), shuffled(hsic_rows.of_pixels(pixels)))
    np.testing.assert_allclose(found.matrix(), everything.matrix(), atol=1e-12)


def test_rows_of_a_pair_hold_both_sides_and_need_no_others():
    pair = random_hsic(2, n_y=4)
    table = hsic_rows.of_pair(pair, "0123456789ab")
    assert set(table["unit_2"].str.partition("|")[0]) == {"0123456789ab"}
    again = hsic_rows.pair(shuffled(table))
    draws = q.draws(6)
    np.testing.assert_allclose(again.matrix(draws), pair.matrix(draws), atol=1e-12)


def test_rows_at_equal_depth_alone_give_the_similarity_at_equal_depth_and_no_other():
    pair = random_hsic(2, n_y=4)
    table = hsic_rows.of_pair(pair, "0123456789ab", depths_only=True)
    assert len(table) == 6 * (4 + 4 + 4)
    again = hsic_rows.pair(table)
    np.testing.assert_allclose(again.same_depth(), pair.same_depth(), atol=1e-12)
    assert indices.same_depth_mean(again.matrix()) == pytest.approx(float(pair.same_depth().mean()))
    assert np.isnan(indices.depth_agreement(again.matrix()))


def test_states_share_their_own_rows_and_come_back_pair_by_pair():
    pairs = {("clean", "adversarial"): random_hsic(3, n_y=4), ("epoch_0.5", "epoch_10"): random_hsic(4, n_y=4)}
    table = hsic_rows.of_states(pairs)
    assert len(table) == 6 * (2 * 4 + 4 * 4)
    again = hsic_rows.states(shuffled(table))
    assert set(again) == set(pairs)
    for names, hsic in pairs.items():
        np.testing.assert_allclose(again[names].same_depth(q.draws(6)), hsic.same_depth(q.draws(6)), atol=1e-12)


def test_rows_need_equal_batches_and_layers_that_live():
    one = random_hsic(0, n_batches=3)
    with pytest.raises(BadInput, match=r"batches have \[20, 50\] examples: rows need equal batches: leave the smaller remainder out"):
        hsic_rows.of_network(BatchHSIC(np.array([50, 50, 20]), one.cross, one.own_x, one.own_y, one.ids))
    with pytest.raises(BadInput, match="a layer has no HSIC with itself: leave it out of the rows"):
        hsic_rows.of_network(BatchHSIC(one.n, 0 * one.cross, 0 * one.own_x, 0 * one.own_y, one.ids))


def without(table, unit_2, unit="batch 001"):
    return table[~((table["unit"] == unit) & (table["unit_2"] == unit_2))]


@pytest.mark.parametrize(
    ("read", "table", "message"),
    [
        (hsic_rows.network, without(hsic_rows.of_network(random_hsic(0)), "1|2"), r"HSIC rows lack 1\|2 in some batch"),
        (hsic_rows.network, hsic_rows.of_network(random_hsic(0)).query("unit_2 != '0|3'"), r"HSIC rows lack 0\|3"),
        (hsic_rows.network, hsic_rows.of_pixels(random_hsic(0, n_y=1)), "joins layer numbers by '|', got one that does not"),
        (hsic_rows.pair, without(hsic_rows.of_pair(random_hsic(0, n_y=4), "ab"), "ab|2|2"), r"HSIC rows lack 2\|2"),
        (hsic_rows.pair, without(hsic_rows.of_pair(random_hsic(0, n_y=4), "ab"), "ab|y|1"), r"HSIC rows lack y\|1"),
        (hsic_rows.pair, hsic_rows.of_pair(random_hsic(0, n_y=4), "ab").query("unit_2 != 'ab|x|3'"), "layers .*, they have 3 and 4"),
        (hsic_rows.pair, hsic_rows.of_network(random_hsic(0)).assign(unit_2=lambda t: "ab|" + t["unit_2"]), "lack a whole side"),
        (hsic_rows.states, without(hsic_rows.of_states({("a", "b"): random_hsic(0)}), "b|b|0"), r"HSIC rows lack b\|b\|0"),
        (
            hsic_rows.states,
            hsic_rows.of_states({("a", "b"): random_hsic(0)}).query("not unit_2.str.startswith('b|b')"),
            r"rows of states a\|b lack those of b\|b",
        ),
    ],
)
def test_rows_that_lack_something_are_refused(read, table, message):
    with pytest.raises(BadInput, match=message):
        read(pd.DataFrame(table))
