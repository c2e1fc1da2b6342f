"""Principal components: the directions they are known to have, and a linear code's inverse in closed form."""

from types import SimpleNamespace

import problems
import pytest
import torch
from inverses import asked, of, planted_set

from reprolib.data.images import images as labelled
from reprolib.findings.invertibility import baselines
from reprolib.findings.invertibility.inverting import Eyes, make_task
from reprolib.judging.tidy import rounded

DECIDING = {"noise": 0.05, "image": 0.05}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROLIB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def eyes():
    return Eyes({"standard": problems.network(seed=5), "robust": problems.network(seed=6)})


def measured(train, task, eyes, n_numbers, **knobs):
    """The baseline of a code of so many numbers."""
    nets = {"standard": [SimpleNamespace(n_features=n_numbers)]}
    return baselines.of(asked(nets, eyes, task, images=train, taus=DECIDING, pool=1, **knobs))


def images_along(directions, scales, n=300):
    """Images about grey (n, 3, 8, 8) that vary along the given orthonormal directions (192, k) alone, each with its scale."""
    places = torch.randn(n, directions.shape[1], generator=problems.generator(3)) * torch.tensor(scales)
    x = (127.5 + places @ directions.T).round().clamp(0, 255).to(torch.uint8).view(n, 3, 8, 8)
    return labelled(x, torch.arange(n) % 4, ("a", "b", "c", "d"), "planted")


def test_components_are_the_directions_along_which_the_images_vary_largest_first():
    directions = problems.orthonormal(192, 3)
    found = baselines.principal_components(images_along(directions, [400.0, 200.0, 100.0]), 3)
    agreement = (found.directions.T @ directions).abs()
    assert agreement.diagonal().min() > 0.99
    assert found.share > 0.99
    torch.testing.assert_close(found.directions.T @ found.directions, torch.eye(3), rtol=0, atol=1e-5)


def test_the_code_is_centred_and_keeps_lengths_along_the_components():
    train = planted_set(80, side=4)
    found = baselines.principal_components(train, 48)
    x = train.x.float() / 255
    code = found.code(x)
    assert code.mean(dim=0).abs().max() < 1e-5
    apart, in_pixels = (torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist") for z in (code, x.flatten(1)))
    torch.testing.assert_close(apart, in_pixels, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("n", "side", "k", "rank"), [(80, 4, 1000, 48), (20, 4, 1000, 19), (80, 4, 5, 5)])
def test_there_are_no_more_components_than_pixels_or_images_allow(n, side, k, rank):
    found = baselines.principal_components(planted_set(n, side), k)
    assert found.directions.shape == (3 * side * side, rank)
    assert found.share == pytest.approx(1, abs=1e-4) if rank > 5 else 0 < found.share < 1


def test_components_belong_to_their_images_and_number():
    keys = {baselines.principal_components(planted_set(40, 4, seed), k).key for seed in (0, 1) for k in (3, 4)}
    assert len(keys) == 4


def test_a_code_of_all_the_components_is_inverted_to_the_targets_themselves(eyes):
    task = make_task(planted_set(side=8), 8, 2)
    part = measured(planted_set(300, side=8, seed=4), task, eyes, 192, steps=150, step=0.1)
    assert len(rounded(part.rows)) == len(part.rows)
    assert set(part.rows["claim"]) == {"baseline"}
    assert set(part.rows["quantity"]) == set(baselines.QUANTITIES)
    assert set(part.rows["unit_2"]) == {"noise_0", "noise_1"}
    assert set(part.rows["arm"]) == set(part.rows["network"]) == {"pca"}
    assert of(part.rows, "baseline", "pixel_correlation", "pca")["value"].min() > 0.98
    assert of(part.rows, "baseline", "distance_ratio", "pca")["value"].max() < 0.3
    right = (eyes.classes("standard", part.pictures["inverses"]) == task.y[: baselines.N_PICTURES]).float()
    recognised = of(part.rows, "baseline", "recognised", "pca")
    assert recognised[recognised["unit_2"] == "noise_0"]["value"].tolist()[: baselines.N_PICTURES] == right.tolist()


def test_a_code_of_few_components_leaves_the_start_where_it_does_not_look(eyes):
    task, train = make_task(planted_set(side=8), 8, 1), planted_set(300, side=8, seed=4)
    seen = baselines.principal_components(train, 20).directions
    inverse = measured(train, task, eyes, 20, steps=150, step=0.05).pictures["inverses"]
    n = len(inverse)
    left = (inverse - task.starts["noise_0"][:n]).flatten(1)
    inside = (inverse > 0) & (inverse < 1)
    assert inside.all()  # so the pixel range did not come in between
    assert (left - left @ seen @ seen.T).norm(dim=1).max() < 1e-4
    assert ((inverse - task.targets[:n]).flatten(1) @ seen).norm(dim=1).max() < 0.2 * (task.targets[:n].flatten(1) @ seen).norm(dim=1).min()
