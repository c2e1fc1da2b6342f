"""Traps of inverting representations that other tests leave open. The others lie where the code is that could fall into them:

1 one by one: test_inversion, test_fourier. 2 cost: test_inversion, test_engine. 3 no gradient: here, test_inversion. 4 best
iterate: test_inversion, test_engine, test_ablating. 5 equal targets: test_invertibility_protocol. 6 no GPU: here, the notebook
at smoke. 7 fake_relu: test_ablating. 8 path and budget: test_inversion, test_ablating. 9 random starts: test_engine.
10 Fourier: test_fourier. 11 precision: test_inversion, test_fourier. 12 g = 0: here, test_engine. 13 clamping normaliser:
here, test_inversion. 14 unreached targets: test_invertibility_protocol.
"""

import re
from pathlib import Path

import problems
import pytest
import torch

import reprolib
from reprolib.data.images import images as labelled
from reprolib.errors import BadInput
from reprolib.findings.invertibility import tidying
from reprolib.findings.invertibility.inverting import TAUS, Eyes, invert_task, make_task
from reprolib.models.layers import representation
from reprolib.perturb.inversion import follow, invert, network_code, noise_start


def carded(recipe: str = "std"):
    """A network with the card that measuring asks for."""
    network = problems.network()
    network.sha256 = recipe.encode().hex().ljust(64, "0")
    network.card = {
        "name": f"tinycnn-{recipe}-s0",
        "description": {"recipe": {"id": recipe}, "architecture": "tinycnn", "seed": 0},
        "clean": {"first_value": 0.9},
        "adversarial": [{"first_value": 0.1, "noise": 0.8, "gradient_zero_share": 0.0}],
    }
    return network


def blind(recipe: str = "blind"):
    """A network that gives every image the same code: no target has a gradient, straight-through ReLU or not."""
    network = carded(recipe)
    with torch.no_grad():
        network.convs[-1].conv.weight.zero_()
        network.convs[-1].bn.bias.fill_(1.0)
    return network


@pytest.fixture
def task(repository):
    x = (problems.images(64, 3, 16, 16) * 255).round().to(torch.uint8)
    return make_task(labelled(x, torch.arange(64) % 4, ("a", "b", "c", "d"), "planted"), 4, 1)


def test_a_network_without_gradients_is_told_in_the_rows_and_its_pictures_stay_at_their_starts(task):
    """Trap 3: dead units look like a network whose inverse never leaves its start; the share of such targets is a row."""
    runs = [
        invert_task("standard", carded(), task, 4, 0.2, 2, list(task.starts)),
        invert_task("robust", blind(), task, 4, 0.2, 2, ["noise_0"]),
    ]
    rows = tidying.tidy(runs, [], task, Eyes({"standard": carded("j"), "robust": carded("k")}), {"noise": TAUS[0], "image": TAUS[0]})
    share = rows[rows["quantity"] == "zero_gradient_share"].groupby("arm")["value"].max()
    assert share.to_dict() == {"standard": 0.0, "robust": 1.0}
    assert torch.equal(runs[1].runs["noise_0"].x, task.starts["noise_0"])
    assert not torch.equal(runs[0].runs["noise_0"].x, task.starts["noise_0"])


def test_among_others_a_sample_without_gradient_stays_is_flagged_and_never_becomes_nan():
    """Trap 12: 0 / 0 of the normalised step, with momentum, over a whole inversion."""
    sees = torch.tensor([1.0, 0.0, 1.0]).view(3, 1)

    def code(x):
        return x.flatten(1) * sees + 0.5 * (1 - sees)  # the second sample's code is the same whatever its image

    x, start = problems.images(3, 3, 8, 8, seed=3), noise_start((3, 3, 8, 8), 4)
    found = follow(code, x.flatten(1), start, 20, 0.1, [0.01], keep_frames=True)
    assert found.zero_gradient.tolist() == [False, True, False]
    assert torch.equal(found.x[1], start[1])
    assert not torch.equal(found.x[0], start[0])
    for tensor in (found.x, found.distance, found.trajectory, found.at[0.01], found.at_distance[0.01]):
        assert torch.isfinite(tensor).all()


def test_pixels_at_the_ends_of_the_range_have_gradient_and_a_start_on_them_finds_its_way():
    """Trap 13: a normaliser that clamps passes no gradient outside the range, and in recent torch none at 0 and 1 either; ours does not."""
    network = problems.network()
    ends = torch.tensor([-0.5, 0.0, 1.0, 1.5]).view(1, 1, 1, 4).expand(1, 3, 1, 4).clone().requires_grad_()
    slope = torch.autograd.grad(network.normaliser(ends).sum(), ends)[0]
    torch.testing.assert_close(slope, (1 / torch.tensor(problems.STD)).view(1, 3, 1, 1).expand_as(slope))
    x, ends = problems.images(3, 3, 8, 8, seed=3), (20 * noise_start((3, 3, 8, 8), 4) - 9.5).clamp(0, 1)
    with torch.no_grad():
        wanted = representation(network, x, 2)
    found = follow(network_code(network, 2), wanted, ends, 60, 0.3, [0.0])
    assert ((ends == 0) | (ends == 1)).float().mean() > 0.4
    assert torch.equal(found.at[0.0], ends)
    assert not found.zero_gradient.any()
    assert (found.distance < 0.3 * found.trajectory[0]).all()
    with pytest.raises(BadInput, match="start lie in"):
        invert(network, x, ends + 0.5, 5, pool=2)


def test_nothing_that_moves_pixels_or_measures_names_a_kind_of_processor_to_run_on():
    """Trap 6: public code calls .cuda() deep inside; here tensors stay where the caller put them."""
    root = Path(reprolib.__file__).parent
    files = [path for room in ("perturb", "measures", "models", "findings") for path in (root / room).rglob("*.py")]
    assert len(files) > 15
    hard = re.compile(r"\.cuda\(|\.to\(\s*[\"'](cuda|cpu|mps)|device=[\"']cuda")
    assert [f"{path.name}: {line.strip()}" for path in files for line in path.read_text().splitlines() if hard.search(line)] == []
