"""Single units: the same images for every network, units drawn for each alone, a failed change that passes for nothing."""

import math

import pandas as pd
import problems
import pytest
import torch
from inverses import asked
from planting import judge
from test_invertibility_protocol import carded, planted_set

from reprolib.findings.invertibility import adding, extremes, units, visualising
from reprolib.findings.invertibility.inverting import Eyes
from reprolib.judging.tidy import rounded
from reprolib.models.layers import representation
from reprolib.perturb.visualisation import Raised

STARTS = ["noise", "image", "ood"]


@pytest.fixture(scope="module")
def eyes():
    return Eyes({"standard": problems.network(seed=5), "robust": problems.network(seed=6)})


@pytest.fixture(scope="module")
def nets():
    return {"standard": [carded(0), carded(1)], "robust": [carded(0, "l2"), carded(1, "l2")], "gauss": [carded(3, "gauss")]}


def ood(n: int = 3):
    return problems.images(n, 3, 16, 16, seed=9)


def visualised(nets, outside, eyes, n_units, steps, step, **more):
    sets = {} if outside is None else {"outside": outside}
    return visualising.of(asked(nets, eyes, outside=sets, n_units=n_units, unit_steps=steps, step=step, **more))


def with_added(nets, eyes, n_units, radius, steps):
    return adding.of(asked(nets, eyes, eps=radius / 2, n_units=n_units, unit_steps=steps))


@pytest.fixture(scope="module")
def seen(nets, eyes):
    return visualised(nets, ood(), eyes, 3, 6, 0.2)


@pytest.fixture(scope="module")
def added(nets, eyes):
    return with_added(nets, eyes, 3, 0.5, 6)


def with_dead(n_dead: int = 4, seed: int = 0):
    """A network whose first channels are 0 on every image, under a hash of its own."""
    network = carded(seed)
    network.sha256 = f"{n_dead}".encode().hex().ljust(64, "1")
    with torch.no_grad():
        network.convs[-1].bn.weight[:n_dead] = 0
        network.convs[-1].bn.bias[:n_dead] = -1
    return network


# --- units


def test_dead_units_are_listed_and_never_asked(eyes):
    network = with_dead(60)
    found = units.units_of(network, planted_set(), 10)
    assert found.dead == list(range(60))
    assert sorted(found.chosen) == [60, 61, 62, 63]  # fewer than asked for, since no more are live
    rows = visualised({"standard": [network]}, None, eyes, 10, 2, 0.2).rows
    assert sorted(rows[rows["quantity"] == "dead"]["unit"].astype(int)) == list(range(60))
    assert rows[rows["quantity"] == "dead_share"]["value"].tolist() == [60 / 64]
    assert set(rows[rows["quantity"] == "high_frequency"]["unit"]) == {"60", "61", "62", "63"}


def test_a_network_without_a_live_unit_is_reported_and_gives_no_value(eyes):
    network, told = with_dead(64), []
    rows = visualised({"standard": [network]}, None, eyes, 2, 2, 0.2, report=told.append).rows
    assert told == ["tinycnn-std-s0: all 64 units are 0 on every test image, none is visualised"]
    assert set(rows["quantity"]) == {"dead", "dead_share"}
    assert with_added({"standard": [network]}, eyes, 2, 0.5, 2).rows.empty


def test_units_are_drawn_for_each_network_alone_and_the_first_of_many_are_those_of_few():
    few, many = (units.units_of(carded(0), planted_set(), n).chosen for n in (3, 8))
    assert many[:3] == few
    assert len(set(many)) == 8
    assert units.units_of(carded(1), planted_set(), 8).chosen != many
    assert units.units_of(carded(0, "l2"), planted_set(), 8).chosen != many  # the same weights under another hash


def test_what_a_unit_does_on_test_images_is_its_pooled_activation():
    network, images = carded(0), planted_set()
    found = units.units_of(network, images, 3)
    codes = representation(network, images.x.float() / 255, 1).detach()
    torch.testing.assert_close(found.codes, codes, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.spread, codes.std(dim=0), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.top, codes.quantile(0.99, dim=0), rtol=1e-3, atol=1e-5)


def test_a_unit_that_is_hardly_ever_on_is_asked_for_its_largest_value_and_not_for_nothing(monkeypatch):
    codes = torch.zeros(500, 3)
    codes[7, 0], codes[:, 1] = 2.5, torch.linspace(0, 1, 500)
    monkeypatch.setattr(units, "codes_of", lambda *given: codes)
    found = units.units_of(carded(0), planted_set(), 2)
    assert found.top.tolist() == pytest.approx([2.5, 0.99, 0.0], abs=1e-3)
    assert found.dead == [2]


def test_the_matched_unit_is_the_one_that_goes_along_on_test_images():
    draw = problems.generator(2)
    hidden = torch.randn((300, 3), generator=draw)
    own = units.Units([2, 0], [], hidden, hidden.std(dim=0), hidden.amax(dim=0))
    judge = torch.stack(
        [-hidden[:, 0], torch.zeros(300), 5 * hidden[:, 2] + 1, hidden[:, 0] + torch.randn(300, generator=draw), hidden[:, 1]], 1
    )
    unit, correlation = units.match(own, judge)
    assert unit.tolist() == [2, 3]
    assert correlation[0].item() == pytest.approx(1)
    assert correlation[1].item() == pytest.approx(1 / math.sqrt(2), abs=0.06)
    opposed, _ = units.match(units.Units([0], [], hidden, hidden.std(dim=0), hidden.amax(dim=0)), judge[:, :2])
    assert opposed.tolist() == [0]  # rather than a dead one, which nothing raises


# --- starts


def test_every_network_starts_from_the_same_images_and_the_first_do_not_depend_on_how_many_follow():
    few, many = (visualising.make_starts(planted_set(), ood(), n) for n in (3, 8))
    assert list(few) == STARTS
    for name, start in few.items():
        assert start.shape == (3, 3, 16, 16)
        assert torch.equal(start, many[name][:3]), name
    assert torch.equal(many["ood"][3:6], ood())  # used in turn
    assert len({tuple(image.flatten().tolist()) for image in many["image"]}) == 8
    assert list(visualising.make_starts(planted_set(), None, 3)) == ["noise", "image"]


# --- INV-7


def test_rows_of_inv_7_hold_every_unit_and_start_once_and_its_starts_apart(seen, nets):
    rows = rounded(seen.rows)
    assert len(rows) == len(seen.rows)
    for arm, networks in nets.items():
        own = rows[(rows["arm"] == arm) & (rows["quantity"] == "high_frequency")]
        assert set(own["network"]) == {network.sha256[:12] for network in networks}
        for _, frame in own.groupby("network"):
            assert sorted(frame.groupby("unit")["unit_2"].agg(tuple)) == [("image", "noise", "ood")] * 3
            for start in STARTS:
                apart = rows[(rows["network"] == frame["network"].iloc[0]) & (rows["quantity"] == f"high_frequency@{start}")]
                together = frame[frame["unit_2"] == start]
                assert apart.set_index("unit")["value"].to_dict() == together.set_index("unit")["value"].to_dict()
    for quantity in ("own_gain", "matched_gain", "spectrum_slope"):
        assert (rows["quantity"] == quantity).sum() == 5 * 3 * 3
    assert (rows[rows["quantity"] == "own_gain"]["value"] > 0).mean() > 0.9  # a unit that is off everywhere may stay so for six steps
    assert rows[rows["quantity"] == "high_frequency"]["value"].between(0, 1).all()


def test_values_are_those_of_the_change_that_was_made(nets, eyes):
    network, images = nets["standard"][0], planted_set()
    own = units.units_of(network, images, 3)
    starts = visualising.make_starts(images, ood(), 3)
    seen = visualising.visualise(network, own, starts, 6, 0.2)
    judged = units.judge_codes_of(eyes, images)
    matched, _ = units.match(own, judged)
    for name in STARTS:
        before, after = (representation(network, x, 1).detach() for x in (starts[name], seen.x[name]))
        gain = torch.stack([(after - before)[i, u] / own.spread[u] for i, u in enumerate(own.chosen)])
        torch.testing.assert_close(seen.gain[name], gain, rtol=1e-3, atol=1e-3)
        other = [representation(eyes.judges["standard"], x, 1).detach() for x in (starts[name], seen.x[name])]
        wanted = torch.stack([(other[1] - other[0])[i, j] / judged[:, j].std() for i, j in enumerate(matched.tolist())])
        torch.testing.assert_close(units.judge_gain(eyes, matched, judged, starts[name], seen.x[name]), wanted, rtol=1e-3, atol=1e-3)


def test_the_spectrum_is_kept_of_the_first_network_of_each_arm_and_adds_up_to_one(seen, nets):
    spectrum = seen.rows[seen.rows["quantity"] == "spectrum"]
    assert set(spectrum["network"]) == {networks[0].sha256[:12] for networks in nets.values()}
    assert sorted(set(spectrum["unit_2"].astype(float)))[-1] == pytest.approx(0.5, abs=0.03)
    assert spectrum["unit_2"].nunique() == 8  # rings of a 16 px image
    assert spectrum.groupby(["network", "unit"])["value"].sum().to_numpy() == pytest.approx(1, abs=1e-5)


def test_a_change_that_is_none_is_given_white_noises_value_and_said_to_have_failed():
    delta = torch.cat([torch.zeros(1, 3, 32, 32), torch.randn((1, 3, 32, 32), generator=problems.generator())])
    fraction, changed = units.high_frequency(delta)
    assert changed.tolist() == [False, True]
    assert fraction[0].item() == pytest.approx(fraction[1].item(), abs=0.03)
    assert fraction[0].item() == pytest.approx(0.804, abs=1e-3)


def test_units_that_nothing_moves_give_rows_without_nan(eyes, monkeypatch):
    def stuck(code, asked, start, **knobs):
        return Raised(
            start, code(start).detach().gather(1, asked[:, None])[:, 0], torch.zeros(len(start)), *[torch.ones(len(start)) > 0] * 2
        )

    monkeypatch.setattr(visualising, "maximise", stuck)
    rows = visualised({"standard": [carded(7)]}, None, eyes, 2, 3, 0.2).rows
    assert len(rounded(rows)) == len(rows)
    failed = rows[rows["quantity"] == "high_frequency"]
    assert failed["value"].to_numpy() == pytest.approx(units.WHITE_NOISE)
    assert not failed["reached"].any()
    assert rows[rows["quantity"] == "spectrum"]["value"].to_numpy() == pytest.approx(1 / 8)


def test_a_network_is_visualised_once_and_then_read(nets, eyes, seen, added, monkeypatch):
    for module in (visualising, adding):
        for name in ("maximise", "add_feature", "add_until"):
            monkeypatch.setattr(module, name, lambda *given, **more: pytest.fail("measured again"), raising=False)
    again = visualised(nets, ood(), eyes, 3, 6, 0.2)
    pd.testing.assert_frame_equal(again.rows, seen.rows)
    assert torch.equal(again.pictures["arms"]["robust"]["x"]["ood"], seen.pictures["arms"]["robust"]["x"]["ood"])
    pd.testing.assert_frame_equal(with_added(nets, eyes, 3, 0.5, 6).rows, added.rows)


def test_pictures_are_those_of_the_first_network_of_each_arm(seen, nets):
    assert list(seen.pictures["starts"]) == STARTS
    assert list(seen.pictures["arms"]) == list(nets)
    for role, shown in seen.pictures["arms"].items():
        assert shown["units"] == units.units_of(nets[role][0], planted_set(), 3).chosen
        for x in shown["x"].values():
            assert (x.shape, x.dtype) == ((3, 3, 16, 16), torch.uint8)


@pytest.mark.parametrize(("claim", "fixture"), [("INV-7", "seen"), ("INV-8", "added")])
def test_a_claim_reads_its_primary_and_its_parts_from_the_rows(claim, fixture, request):
    rows = rounded(request.getfixturevalue(fixture).rows)
    entry = judge(claim, rows, "cifar")
    means = rows[rows["quantity"] == entry["quantity"]].groupby("arm")["value"].mean()
    assert entry["estimate"] == pytest.approx(means["robust"] - means["standard"], abs=1e-5)
    assert [*map(len, entry["networks"].values())] == [2, 2]
    assert entry["n"] == 3
    assert [part["name"] for part in entry["parts"] if part["estimate"] is None] == []


def test_inv_5_reads_its_part_on_outside_starts_from_the_rows_of_inv_7(seen):
    rows = rounded(seen.rows)
    (part,) = [part for part in judge("INV-5", rows, "cifar")["parts"] if part["name"] == "visualisation from OOD starts"]
    outside = rows[(rows["quantity"] == "high_frequency") & (rows["unit_2"] == "ood")].groupby("arm")["value"].mean()
    assert part["estimate"] == pytest.approx(outside["robust"] - outside["standard"], abs=1e-5)


# --- INV-8


def test_rows_of_inv_8_hold_two_images_a_unit_and_changes_of_one_norm(added):
    rows = rounded(added.rows)
    assert len(rows) == len(added.rows)
    for quantity, frame in rows.groupby("quantity"):
        assert (frame.groupby(["network", "unit"])["unit_2"].agg(tuple) == ("image_0", "image_1")).all(), quantity
    norm = rows[rows["quantity"] == "norm"]
    assert norm["value"].to_numpy() == pytest.approx(0.5, rel=1e-4)
    assert norm["reached"].all()
    assert (rows[rows["quantity"] == "gain"]["value"] > 0).mean() > 0.8
    assert (rows[rows["quantity"].isin(["perceptual_change", "perceptual_change_robust_judge", "off_target"])]["value"] > 0).all()


def test_a_cap_that_is_not_reached_counts_the_whole_path_and_none_is_dropped(nets, eyes):
    reached = with_added(nets, eyes, 3, 0.5, 40).rows
    short = with_added(nets, eyes, 3, 1e-3, 3).rows
    for rows, path in ((reached, 2 * 40 * 0.5 / 20), (short, 2 * 3 * 1e-3 / 20)):
        norms = rows[rows["quantity"] == "norm_to_reach"]
        assert len(norms) == 5 * 3 * 2
        assert norms[~norms["reached"]]["value"].to_numpy() == pytest.approx(path)
        assert (norms[norms["reached"]]["value"] <= path).all()
    assert reached[reached["quantity"] == "norm_to_reach"]["reached"].mean() > 0.5
    assert (~short[short["quantity"] == "norm_to_reach"]["reached"]).sum() > 20


def test_off_target_change_leaves_the_raised_unit_out():
    before = torch.tensor([[1.0, 3.0, 4.0], [2.0, 0.0, 0.0]])
    after = torch.tensor([[9.0, 3.0, 9.0], [2.0, 1.0, 0.0]])
    assert adding.off_target(before, after, torch.tensor([0, 1])).tolist() == pytest.approx([1.0, 0.0])
    assert adding.off_target(before, after, torch.tensor([2, 0])).tolist() == pytest.approx([8 / math.sqrt(10), 1e12])


# --- extremes


def test_the_extremes_of_a_unit_are_its_top_and_bottom_test_images_and_grey_driven_further(nets, eyes):
    images = planted_set()
    found = extremes.of(asked(nets, eyes, unit_steps=15, step=0.2))
    assert list(found.pictures) == ["standard", "robust"]
    for role in ("standard", "robust"):
        shown = found.pictures[role]
        code = units.code_of(nets[role][0])
        values = units.units_of(nets[role][0], images, 3).codes
        for i, unit in enumerate(shown["units"]):
            in_order = values[:, unit].sort(descending=True).values
            for end, wanted in (("top", in_order[:5]), ("bottom", in_order.flip(0)[:5])):
                torch.testing.assert_close(code(shown[end][i].float() / 255)[:, unit], wanted, rtol=1e-3, atol=1e-5)
    rows = rounded(found.rows).pivot_table(index=["network", "unit"], columns="quantity", values="value")
    assert (rows["maximised"] > rows["minimised"]).all()
    assert (rows["top"] > rows["bottom"]).all()
    assert set(found.rows["claim"]) == {"extremes"}
