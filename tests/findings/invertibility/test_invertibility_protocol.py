"""Every network faces the same targets from the same starts, and a target that is not reached counts against it."""

from dataclasses import replace

import pandas as pd
import problems
import pytest
import torch
from inverses import carded, of, planted, planted_set

from reprolib.errors import BadInput
from reprolib.findings.invertibility import inverting, tidying
from reprolib.findings.invertibility.inverting import TAUS, Eyes, invert_task, make_task
from reprolib.judging.tidy import rounded
from reprolib.models.layers import representation
from reprolib.perturb.inversion import Inversion

DECIDING = {"noise": 0.2, "image": 0.2}


@pytest.fixture(scope="module")
def task():
    return make_task(planted_set(), 8, 1)


@pytest.fixture(scope="module")
def eyes():
    return Eyes({"standard": problems.network(seed=5), "robust": problems.network(seed=6)})


ALL, HALF = [True] * 8, [True, False] * 4


# --- the task


def test_two_tasks_of_one_set_are_the_same_to_the_last_bit():
    one, other = (make_task(planted_set(), 12, 2) for _ in range(2))
    torch.rand(3)
    assert one.ids == other.ids
    assert torch.equal(one.targets, other.targets)
    assert list(one.starts) == list(other.starts) == ["noise_0", "noise_1", "image"]
    assert all(torch.equal(start, other.starts[name]) for name, start in one.starts.items())
    assert one.data_sha256 == other.data_sha256 == planted_set().sha256


def test_targets_come_in_turn_from_every_class_and_no_image_twice():
    images, task = planted_set(), make_task(planted_set(), 12, 1)
    assert task.y.tolist() == [0, 1, 2, 3] * 3
    assert len(set(task.ids)) == 12
    assert torch.equal(task.targets, images.x[task.ids].float() / 255)
    assert torch.equal(task.y, images.y[task.ids])


@pytest.mark.parametrize("n_targets", [1, 5, 12, 40])
def test_image_starts_are_of_another_class_and_no_target_and_no_start_twice(n_targets):
    images, task = planted_set(), make_task(planted_set(), n_targets, 1)
    assert (task.start_y != task.y).all()
    pictures = {tuple(image.flatten().tolist()): i for i, image in enumerate(images.x)}
    ids = [pictures[tuple((start * 255).round().to(torch.uint8).flatten().tolist())] for start in task.starts["image"]]
    assert len(set(ids)) == n_targets
    assert not set(ids) & set(task.ids)
    assert torch.equal(images.y[ids], task.start_y)


def test_every_other_class_serves_as_a_start():
    task = make_task(planted_set(), 12, 1)
    assert {(a, b) for a, b in zip(task.y.tolist(), task.start_y.tolist(), strict=True)} == {
        (a, b) for a in range(4) for b in range(4) if a != b
    }


def test_the_first_targets_and_their_starts_do_not_depend_on_how_many_follow():
    """The control of the first few targets is kept under their key alone."""
    few, many = make_task(planted_set(), 5, 2), make_task(planted_set(), 20, 2)
    assert few.ids == many.ids[:5]
    assert torch.equal(few.targets, many.targets[:5])
    for name, start in few.starts.items():
        assert torch.equal(start, many.starts[name][:5]), name


def test_targets_and_starts_come_from_the_first_test_images_and_no_more_than_they_hold(monkeypatch):
    monkeypatch.setattr(inverting, "FIRST_TEST_IMAGES", 40)
    rarest = planted_set().y[:40].bincount().min().item()
    assert max(make_task(planted_set(), 2 * rarest, 1).ids) < 40
    with pytest.raises(BadInput) as refusal:
        make_task(planted_set(), 2 * rarest + 1, 1)
    assert f"n_targets={2 * rarest + 1} is not allowed" in str(refusal.value)
    assert str(refusal.value).endswith(f"the first 40 test images; allowed: up to {2 * rarest}")


def test_images_are_taken_in_turn_from_every_class_and_classes_that_have_run_out_are_passed_over():
    y = torch.tensor([2, 2, 2, 0, 0, 1])
    assert inverting.in_turn(y, 6) == [3, 5, 0, 4, 1, 2]
    assert inverting.in_turn(y, 2) == [3, 5]
    assert inverting.in_turn(y, 9) == inverting.in_turn(y, 6)


def test_grey_is_a_start_only_where_it_is_asked_for_and_there_is_one_grey():
    assert "grey" not in make_task(planted_set(), 4, 1).starts
    with_grey = make_task(planted_set(), 4, 2, n_grey=1)
    assert list(with_grey.starts) == ["noise_0", "noise_1", "image", "grey"]
    assert (with_grey.starts["grey"] == 0.5).all()


# --- measuring


def test_a_network_is_measured_once_and_then_read(repository, task, monkeypatch):
    network, told = carded(), []
    first = invert_task("standard", network, task, 10, 0.2, 2, ["noise_0", "image"], report=told.append)
    assert told == ["tinycnn-std-s0: inverting 8 targets from 2 starts, 10 steps, 2 x 2 code"]
    monkeypatch.setattr(inverting, "follow", lambda *given, **more: pytest.fail("measured again"))
    again = invert_task("standard", network, task, 10, 0.2, 2, ["noise_0", "image"], report=told.append)
    assert len(told) == 1
    assert first.unit == again.unit
    for name, run in first.runs.items():
        assert torch.equal(run.x, again.runs[name].x)
        assert torch.equal(run.trajectory, again.runs[name].trajectory)


def test_an_entry_belongs_to_its_network_and_settings(repository, task):
    told = []
    base = {"task": task.first(4), "steps": 3, "step": 0.2, "pool": 2, "starts": ["noise_0"]}
    for network, changed in (
        (carded(), {}),
        (carded(seed=1), {}),
        (carded(), {"steps": 4}),
        (carded(), {"step": 0.1}),
        (carded(), {"pool": 1}),
        (carded(), {"starts": ["image"]}),
        (carded(), {"task": task.first(5)}),
        (carded(), {}),
    ):
        invert_task("standard", network, report=told.append, **(base | changed))
    assert len(told) == 7


def test_distances_are_told_in_units_of_the_networks_own_random_pairs(repository, task):
    network = carded()
    run = invert_task("standard", network, task, 20, 0.2, 2, ["noise_0"])
    code = [representation(network, x, 2).detach() for x in (run.runs["noise_0"].x, task.targets, task.starts["noise_0"])]
    d_rep = [(one - code[1]).norm(dim=1) / code[1].norm(dim=1) for one in (code[0], code[2])]
    torch.testing.assert_close(run.runs["noise_0"].distance, d_rep[0] / run.unit, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(run.runs["noise_0"].trajectory[0], d_rep[1] / run.unit, rtol=1e-3, atol=1e-5)
    for tau in TAUS:
        reached = run.runs["noise_0"].reached[tau]
        assert (run.runs["noise_0"].at_distance[tau][reached] <= tau * (1 + 1e-6)).all()
        assert (run.runs["noise_0"].at_distance[tau][~reached] > tau).all()
        assert torch.equal(run.runs["noise_0"].at[tau][~reached], task.starts["noise_0"][~reached])
    typical = representation(network, task.typical, 2).detach()
    pairs = torch.cdist(typical, typical)[~torch.eye(80, dtype=torch.bool)].view(80, 79) / typical.norm(dim=1).view(-1, 1)
    assert run.unit == pytest.approx(pairs.median().item(), rel=0.05)


def test_many_images_are_inverted_in_chunks_without_a_change(repository, task, monkeypatch):
    starts = ["noise_0", "image"]
    whole = invert_task("standard", carded(), task, 10, 0.2, 2, starts)
    monkeypatch.setattr(inverting, "CHUNK", 3)
    monkeypatch.setenv("REPROLIB_CACHE", "another")
    parts = invert_task("standard", carded(), task, 10, 0.2, 2, starts)
    for name in starts:
        torch.testing.assert_close(parts.runs[name].x, whole.runs[name].x, rtol=0, atol=1e-4)
        torch.testing.assert_close(parts.runs[name].trajectory, whole.runs[name].trajectory, rtol=1e-3, atol=1e-5)
        assert (parts.runs[name].frames.int() - whole.runs[name].frames.int()).abs().max() <= 1


def test_measuring_is_in_fp32_whatever_the_autocast_state(repository, task, monkeypatch):
    plain = invert_task("standard", carded(), task, 5, 0.2, 2, ["noise_0"])
    monkeypatch.setenv("REPROLIB_CACHE", "another")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = invert_task("standard", carded(), task, 5, 0.2, 2, ["noise_0"])
    assert inside.unit == plain.unit
    assert torch.equal(inside.runs["noise_0"].x, plain.runs["noise_0"].x)


def test_a_network_left_in_train_mode_is_measured_in_eval_mode(repository, task, monkeypatch):
    plain, network = invert_task("standard", carded(), task, 5, 0.2, 2, ["noise_0"]), carded().train()
    buffers = problems.buffers(network)
    monkeypatch.setenv("REPROLIB_CACHE", "another")
    measured = invert_task("standard", network, task, 5, 0.2, 2, ["noise_0"])
    assert torch.equal(measured.runs["noise_0"].x, plain.runs["noise_0"].x)
    assert network.training
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in network.named_buffers())


def test_a_code_that_is_the_pixels_themselves_is_inverted_to_the_targets(repository, task):
    unit, runs = inverting.invert_code(problems.identity_code, {"code": "identity"}, task, 200, 0.1, ["noise_0", "image"])
    pixels = task.typical.flatten(1)
    pairs = torch.cdist(pixels, pixels)[~torch.eye(80, dtype=torch.bool)].view(80, 79) / pixels.norm(dim=1).view(-1, 1)
    assert unit == pytest.approx(pairs.median().item(), rel=0.02)
    for run in runs.values():
        assert (run.x - task.targets).flatten(1).norm(dim=1).max() < 1e-2
        assert run.reached[0.05].all()


def test_a_code_that_sees_a_subspace_fixes_the_target_there_and_keeps_the_start_elsewhere(repository):
    middle = make_task(planted_set(), 8, 1)  # targets about grey: the pixel range does not come in between
    images = 0.5 + 0.2 * (middle.targets - 0.5)
    task = replace(middle, targets=images, data_sha256="about grey")
    seen = problems.orthonormal(images[0].numel(), 40)
    _, runs = inverting.invert_code(lambda x: x.flatten(1) @ seen, {"code": "projection"}, task, 300, 0.05, ["noise_0"])
    moved = (runs["noise_0"].x - images).flatten(1) @ seen
    from_start = (runs["noise_0"].x - task.starts["noise_0"]).flatten(1)
    assert moved.norm(dim=1).max() < 2e-3
    assert (from_start - from_start @ seen @ seen.T).norm(dim=1).max() < 1e-4


def test_what_is_measured_now_and_what_is_read_later_lie_alike_in_memory(repository, task):
    """Sums over another layout differ in the last bit, and a second run must give the same bytes."""
    for _ in range(2):
        run = invert_task("standard", carded(), task, 3, 0.2, 2, ["noise_0"]).runs["noise_0"]
        assert all(x.is_contiguous() for x in (run.x, run.at[0.5]))


def test_judges_see_no_distance_between_equals_and_judge_as_the_network_does(task, eyes):
    distance = eyes.distance("standard", task.targets, task.targets)
    assert distance.abs().max() < 1e-6
    assert (eyes.distance("standard", task.targets, task.starts["image"]) > 0.01).all()
    assert torch.equal(eyes.classes("robust", task.targets), problems.network(seed=6)(task.targets).argmax(dim=1))


# --- rows


def test_a_network_that_reaches_half_of_its_targets_scores_worse_than_one_that_reaches_all_at_equal_distance(task, eyes):
    runs = [planted(task, carded(0), "standard", ALL), planted(task, carded(0, "l2"), "robust", HALF)]
    rows = tidying.tidy(runs, [], task, eyes, DECIDING)
    for claim in ("INV-1", "INV-2"):
        every, half = of(rows, claim, "distance_ratio"), of(rows, claim, "distance_ratio", "robust")
        assert every["unit"].tolist() == half["unit"].tolist() == [str(i) for i in task.ids]  # none is dropped
        equal = half["reached"].tolist()
        assert equal == HALF
        assert half["value"][equal].tolist() == every["value"][equal].tolist()
        assert half["value"].to_numpy()[[not e for e in equal]] == pytest.approx(1)
        assert every["value"].max() < 1
        assert half["value"].mean() > every["value"].mean() + 0.1
        assert of(rows, claim, "distance_ratio@final")["value"].to_numpy() == pytest.approx(1)


def test_a_target_not_reached_is_not_recognised_whatever_the_judge_says(task, eyes):
    standard = planted(task, carded(), "standard", HALF, at=task.targets)
    rows = tidying.tidy([standard], [], task, eyes, DECIDING)
    right = (eyes.classes("standard", task.targets) == task.y) & torch.tensor(HALF)
    assert of(rows, "INV-3", "recognised")["value"].tolist() == right.float().tolist()
    assert of(rows, "INV-3", "recognised@0.05")["value"].tolist() == right.float().tolist()
    by_robust = (eyes.classes("robust", task.targets) == task.y) & torch.tensor(HALF)
    assert of(rows, "INV-3", "recognised_robust_judge")["value"].tolist() == by_robust.float().tolist()


def test_an_inverse_that_is_the_target_is_at_no_distance_and_like_it_in_every_measure(task, eyes):
    rows = tidying.tidy([planted(task, carded(), "standard", ALL, at=task.targets)], [], task, eyes, DECIDING)
    wanted = {
        "distance_ratio": 0,
        "distance_ratio_robust_judge": 0,
        "ssim": 1,
        "pixel_correlation": 1,
        "edge_correlation": 1,
        "lowpass_mse": 0,
    }
    for quantity, value in wanted.items():
        for claim in ("INV-1", "INV-2"):
            assert of(rows, claim, quantity)["value"].to_numpy() == pytest.approx(value, abs=1e-5), quantity


def test_rows_fit_the_schema_and_each_claim_finds_its_own(task, eyes):
    runs = [planted(task, carded(0), "standard", ALL), planted(task, carded(0, "l2"), "robust", HALF)]
    twice = [replace(runs[0], runs={name: _first(run, 4) for name, run in runs[0].runs.items()})]
    rows = tidying.tidy(runs, twice, task, eyes, DECIDING)
    sizes = tidying.code_size_rows({4: runs, 1: runs}, task, eyes)
    reach = tidying.reach_rows(runs, task)
    for part in (rows, reach, sizes):
        assert len(rounded(part)) == len(part)
    assert set(rows["claim"]) == {"INV-1", "INV-2", "INV-3", "converged", "trajectory", "inversion"}
    quantities = set(rows["quantity"])
    assert {f"distance_ratio@{tau:g}" for tau in TAUS} | {"distance_ratio@final", "recognised@final", "recognised_start"} <= quantities
    assert set(of(rows, "INV-1", "distance_ratio")["unit_2"]) == {"image"}
    assert set(of(rows, "INV-2", "distance_ratio")["unit_2"]) == {"noise_0"}
    assert set(of(rows, "converged", "final_distance")["unit_2"]) == {f"{s}|{x}" for s in ("noise_0", "image") for x in ("x1", "x2")}
    assert set(of(rows, "converged", "final_distance")["unit"]) == {str(i) for i in task.ids[:4]}
    assert set(sizes["unit_2"]) == {"k=1", "k=4"}


def test_the_judges_ceiling_and_floor_are_its_answers_on_the_right_and_on_other_targets(task, eyes):
    rows = tidying.tidy([planted(task, carded(), "standard", ALL)], [], task, eyes, DECIDING)
    seen = eyes.classes("standard", task.targets)
    assert of(rows, "INV-3", "judge_ceiling", "judge")["value"].tolist() == (seen == task.y).float().tolist()
    assert of(rows, "INV-3", "judge_floor", "judge")["value"].tolist() == (seen.roll(-1) == task.y).float().tolist()


# --- the deciding threshold


def test_the_deciding_tau_is_the_smallest_that_nine_in_ten_targets_reach_in_every_network(eyes):
    task = make_task(planted_set(), 20, 1)

    def arm(role, network, counts):
        one = planted(task, network, role, [True] * 20)
        reached = {tau: torch.arange(20) < n for tau, n in zip(TAUS, counts, strict=True)}
        return replace(one, runs={name: replace(run, reached=reached) for name, run in one.runs.items()})

    standard, robust = carded(0), carded(0, "l2")
    for counts, wanted in (
        ([(20, 20, 20, 20, 20), (20, 20, 20, 18, 17)], 0.1),
        ([(20, 18, 17, 0, 0), (20, 20, 20, 20, 20)], 0.35),
        ([(17, 10, 0, 0, 0), (20, 20, 20, 20, 20)], 0.5),
    ):
        runs = [arm("standard", standard, counts[0]), arm("robust", robust, counts[1]), arm("untrained", carded(9), (0,) * 5)]
        rows = tidying.reach_rows(runs, task)
        assert tidying.deciding_taus(rows) == {"noise": wanted, "image": wanted}  # control networks have no say
        assert tidying.deciding_taus(rows[rows["arm"] != "robust"]) == dict.fromkeys(("noise", "image"), _smallest(counts[0]))
        outside = rows[rows["claim"] == "INV-2"].assign(claim="INV-5")
        assert tidying.deciding_taus(pd.concat([rows, outside])) == dict.fromkeys(("noise", "image", "outside"), wanted)
        table = tidying.reach_table(rows)
        assert list(table.columns) == ["0.5", "0.35", "0.2", "0.1", "0.05"]
        assert table.loc[("noise", "robust", 0)].tolist() == [n / 20 for n in counts[1]]


def _smallest(counts):
    """The smallest tau that at least 18 of 20 targets reach."""
    return min((tau for tau, n in zip(TAUS, counts, strict=True) if n >= 18), default=max(TAUS))


def _first(run: Inversion, n: int) -> Inversion:
    """The run of its first n targets."""
    return Inversion(
        run.x[:n], run.distance[:n], {t: v[:n] for t, v in run.reached.items()}, {t: v[:n] for t, v in run.at.items()},
        {t: v[:n] for t, v in run.at_distance.items()}, run.steps, run.trajectory[:, :n], run.frames[:, :n], run.zero_gradient[:n],
    )  # fmt: skip
