"""HSICs within and between networks, batch by batch: laws, and what each removal and each pair must agree with."""

import numpy as np
import pytest
import torch
from inverses import planted_set
from layers import carded, compared

from reprolib import registry
from reprolib.errors import BadInput
from reprolib.findings.block_structure.batches import batches, last_images
from reprolib.findings.block_structure.comparing import NO_PC1, NO_TOP, PIXELS, PLAIN, compare, pairs_of
from reprolib.findings.block_structure.networks import seed_of
from reprolib.findings.block_structure.overfitting import N_CHOOSING, N_MEASURING
from reprolib.findings.block_structure.question import features
from reprolib.findings.block_structure.rotating import rotate
from reprolib.measures.dominance import top_points, without_points
from reprolib.measures.gram import gram
from reprolib.measures.procrustes import procrustes_similarity
from reprolib.models.grams import collect, minibatch_cka, spatial_mean


@pytest.fixture(scope="module")
def networks():
    return [carded(0), carded(1), carded(0, "l2_075", weights=10)]


@pytest.fixture(scope="module")
def used():
    return batches(planted_set(), 16, 3)


@pytest.fixture(scope="module")
def found(networks, used):
    return compare(networks, [(0, 1), (1, 2)], used, compared, True)


def test_batches_share_no_image_and_keep_the_sets_order():
    images = planted_set()
    seen = torch.cat([*batches(images, 16, 5)])
    assert torch.equal(seen, images.x.float() / 255)
    assert torch.equal(batches(images, 16, 2).labels.flatten(), images.y[:32])


def test_more_batches_than_there_are_images_for_are_refused_with_what_is_possible():
    with pytest.raises(BadInput, match=r"6 disjoint batches of 16 need 96 images, planted has 80: at most n_batches=5 .*batch_size=13"):
        batches(planted_set(), 16, 6)


def test_the_last_images_are_cut_from_the_end():
    images = planted_set()
    assert torch.equal(last_images(images, 10).x, images.x[-10:])
    assert torch.equal(last_images(images, 10, skip=4).x, images.x[-14:-4])


def test_what_chooses_and_measures_an_overfitted_state_is_apart_from_what_compares_states():
    settings = registry.settings("block_structure")["presets"]["cifar"]
    assert settings["state_batch_size"] * settings["state_batches"] + N_CHOOSING + N_MEASURING <= 10_000


def test_within_a_network_it_is_the_cka_of_its_maps(found, networks, used):
    for network, own in zip(networks, found.within, strict=True):
        assert np.allclose(own[PLAIN].matrix(), minibatch_cka(network, used).matrix(), atol=1e-6)
        assert np.allclose(np.diagonal(own[NO_PC1].matrix()), 1)


def test_between_two_networks_it_is_their_cka_on_the_same_images(found, networks, used):
    expected = minibatch_cka(networks[1], used, networks[2]).matrix()
    assert np.allclose(found.between[1, 2][PLAIN].matrix(), expected, atol=1e-6)


def test_the_pixels_stand_beside(found, networks, used):
    pixels = found.within[0][PIXELS].matrix()
    assert pixels.shape == (4, 1)
    expected = minibatch_cka(networks[0], used, layers=("pixels", "conv1")).matrix()[0, 1]
    assert pixels[0, 0] == pytest.approx(expected, abs=1e-6)


def test_another_question_is_measured_anew(networks, used):
    def averaged(network, images):
        return {name: spatial_mean(value) for name, value in collect(network, images, reduce=torch.clone).items()}

    hsics = compare(networks[:1], [], used, averaged, False)
    assert np.allclose(
        hsics.within[0][PLAIN].matrix(), minibatch_cka(networks[0], used, reduce=lambda x: gram(spatial_mean(x))).matrix(), atol=1e-6
    )

    def two(network, images):
        return collect(network, images, ("conv1", "pooled"), reduce=torch.clone)

    fewer = compare(networks[:1], [], used, two, True)
    assert fewer.layers == ("conv1", "pooled")
    assert fewer.within[0][PLAIN].matrix()[0, 1] == pytest.approx(minibatch_cka(networks[0], used).matrix()[0, 3], abs=1e-6)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (lambda network, images: {"conv1": images}, "gives 1 layers: at least 2"),
        (lambda network, images: {"a": images, "b": images[:3]}, r"gives \(3, 3, 16, 16\) for layer b of 16 images"),
        (lambda network, images: {"a": images, "b": None}, "gives NoneType for layer b"),
    ],
)
def test_a_question_without_features_is_refused(question, message, networks, used):
    with pytest.raises(BadInput, match=message):
        features(question, networks[0], next(iter(used)))


def test_a_pair_loses_the_same_points_in_both_networks(networks):
    one = batches(planted_set(), 16, 1)
    both = compare(networks[:2], [(0, 1)], one, compared, True).between[0, 1][NO_TOP]
    x = next(iter(one))
    grams = [[*collect(network, x).values()] for network in networks[:2]]
    points = top_points([*grams[0], *grams[1]])
    assert len(points) == 1
    kept = [[without_points(gram, points) for gram in side] for side in grams]
    a, b = kept[0][2], kept[1][2]
    assert a.shape == (15, 15)
    from reprolib.measures.gram import u_centred

    a, b = u_centred(a), u_centred(b)
    assert both.matrix()[2, 2] == pytest.approx(float((a * b).sum() / (a.norm() * b.norm())), abs=1e-5)


def test_shares_and_cosines_are_those_of_the_first_components(found, networks, used):
    first = [*collect(networks[0], next(iter(used))).values()]
    values, vectors = (torch.stack(one) for one in zip(*(torch.linalg.eigh(one) for one in first), strict=True))
    assert found.shares[0][0, :, 0] == pytest.approx((values[:, -1] / values.sum(dim=1)).tolist(), abs=1e-5)
    assert found.cosines[0][0] == pytest.approx((vectors[:-1, :, -1] * vectors[1:, :, -1]).sum(dim=1).abs().tolist(), abs=1e-4)


def test_a_second_look_reads_the_cache(found, networks, used, monkeypatch):
    monkeypatch.setattr("reprolib.findings.block_structure.comparing._measured", None)
    again = compare(networks, [(0, 1), (1, 2)], used, compared, True)
    assert np.array_equal(again.between[0, 1][NO_PC1].cross, found.between[0, 1][NO_PC1].cross)


def test_procrustes_compares_whole_networks_and_equal_depths(monkeypatch):
    used = batches(planted_set(n=1280), 640, 2)
    networks = [carded(0), carded(1)]
    within, between = rotate(networks, [(0, 1)], used, compared)
    x = next(iter(used))
    sides = [[*collect(network, x, reduce=spatial_mean).values()] for network in networks]
    upper = np.triu_indices(4, 1)
    whole, beyond = (procrustes_similarity(sides[0], shuffles=shuffles)[upper].mean() for shuffles in (0, 5))
    assert within[0]["off_diagonal_mean@procrustes"][0] == pytest.approx(whole, abs=1e-6)
    assert within[0]["off_diagonal_mean@procrustes_shuffled"][0] == pytest.approx(whole - beyond, abs=1e-6)
    assert not any(quantity.startswith("stage_contrast") for quantity in within[0])  # a TinyCNN has no stages
    expected = np.mean([procrustes_similarity([a], [b], shuffles=0)[0, 0] for a, b in zip(*sides, strict=True)])
    assert between[0, 1]["same_depth_mean@procrustes"][0] == pytest.approx(expected, abs=1e-6)


def test_only_networks_of_different_seeds_are_paired_the_standard_one_first():
    arms = [("standard", carded(0)), ("standard", carded(1)), ("robust", carded(0, "l2_075")), ("robust", carded(1, "l2_075"))]
    names = {((arms[a][0], seed_of(arms[a][1])), (arms[b][0], seed_of(arms[b][1]))) for a, b in pairs_of(arms)}
    assert names == {
        (("standard", 0), ("standard", 1)),
        (("robust", 0), ("robust", 1)),
        (("standard", 0), ("robust", 1)),
        (("standard", 1), ("robust", 0)),
    }
