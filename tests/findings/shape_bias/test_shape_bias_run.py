"""Asking: rows of stimuli and of distorted images from networks whose answers are known, common lists, and the stimuli themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import reprolib
from reprolib import data
from reprolib.data import distort
from reprolib.errors import BadInput
from reprolib.findings.shape_bias import asking, distorting, explorer, stimuli
from reprolib.findings.shape_bias.stimuli import Stimuli
from reprolib.models.layers import logits_of
from reprolib.study import Study

RECIPES = {"standard": "std", "robust": "l2_075", "gauss": "gauss_20", "robust_small": "l2_025"}


class Knows(nn.Module):
    """A network of a role and seed, whose answers a question reads off `kind`."""

    n_classes = 4

    def __init__(self, role: str, seed: int, kind: str = "") -> None:
        super().__init__()
        self.kind, self.seed, self.sha256 = kind, seed, f"{role}{seed}".ljust(64, "0")
        self.card = {"name": f"{role} {seed}", "description": {"recipe": {"id": RECIPES[role]}, "architecture": "tinycnn", "seed": seed}}


def says(network: Knows, shown: Stimuli) -> Mapping[str, Any]:
    """By shape, by texture, or on every other stimulus nothing at all."""
    by_shape = torch.ones(len(shown.x)) > (1 if network.kind == "texture" else 0)
    silent = torch.arange(len(shown.x)) % 2 == (1 if network.kind == "half" else 2)
    of = torch.ones(len(shown.x)) * network.seed
    return {"answers": (by_shape, ~silent), "graded": of, "graded_raw": of, "answers_colour": by_shape}


def knows(network: Knows, shown: Stimuli) -> Mapping[str, Tensor]:
    """Right on all images but those whose number its seed + 2 divides; of grey ones, none."""
    grey = bool((shown.x.std(dim=1) < 1e-6).all())
    return {"right": (torch.arange(len(shown.x)) % (network.seed + 2) != 0) & (not grey)}


@pytest.fixture
def study(repository: Any, monkeypatch: pytest.MonkeyPatch) -> Study:
    for name in ("REPROLIB_CACHE", "REPROLIB_DATA"):
        monkeypatch.delenv(name, raising=False)
    return reprolib.start("shape_bias", {"scale": "smoke", "n_conflict": 120, "n_images": 60})


def test_rows_hold_who_answered_what_by_which_cue(study: Study) -> None:
    nets = {"standard": [Knows("standard", 0, "texture"), Knows("standard", 1, "half")], "robust": [Knows("robust", 0), Knows("robust", 1)]}
    rows = asking.conflicts(study, {"": nets}, says)  # type: ignore[dict-item, arg-type]
    answers = rows[(rows["claim"] == "SHP-1") & (rows["quantity"] == "answers")]
    assert set(answers.groupby("network").size()) == {120}
    assert set(answers["network"]) == {one.sha256[:12] for of in nets.values() for one in of}  # whose weights, not which name
    assert answers["unit_2"].str.fullmatch(r"(disc|square|triangle|star)\+grating_\d+").all()
    assert not any(shape == texture for shape, texture in zip(*stimuli_cues(study), strict=True))
    means = answers.groupby("network")[["value", "reached"]].mean()
    assert means.loc["standard0000"].tolist() == [0, 1]
    assert means.loc["standard1000"].tolist() == [1, 0.5]
    both = rows[rows["quantity"] == "answers@both"]
    assert set(both.groupby("network").size()) == {60}  # those that every network of both arms answered by a cue
    assert not any(rows["quantity"].str.startswith("answers@gratings"))  # one family of textures is none


def test_the_explorer_draws_a_stimulus_and_what_every_network_makes_of_it(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    nets = {"standard": [Knows("standard", 0, "texture")], "robust": [Knows("robust", 1, "half")]}
    study.add(asking.conflicts(study, {"": nets}, says))  # type: ignore[dict-item, arg-type]
    screen = explorer.Screen(stimuli.conflicts(study), study.rows)
    assert screen.png(1, "").startswith(b"\x89PNG")
    assert screen.png(1, "") != screen.png(2, "")
    shown = explorer.shape_bias(study, "on")
    assert len(shown.children[0].children[0].options) == 120
    assert explorer.shape_bias(study, "off") is None
    assert "nobody is watching" in capsys.readouterr().out


def stimuli_cues(study: Study) -> tuple[list[int], list[int]]:
    of = stimuli.conflicts(study)[""]
    return of.shape.tolist(), of.texture.tolist()


def test_the_common_list_is_of_the_arms_first_seeds_and_every_network_counts_what_it_too_has_right(study: Study) -> None:
    nets = {
        "standard": [Knows("standard", 0), Knows("standard", 1)], "robust": [Knows("robust", 0), Knows("robust", 3)],
        "gauss": [Knows("gauss", 2)],
    }  # fmt: skip
    grey = {"scrambled_2": lambda x: x.flip(3), "highpass": lambda x: x * 0 + 0.5}
    rows = distorting.distorted(study, {"": nets}, knows, grey)  # type: ignore[dict-item, arg-type]
    kept = rows[rows["quantity"] == "right@scrambled_2"]
    common = [k for k in range(60) if k % 2 and k % 3]  # of seeds 0 and 1; seed 3 is none of the first three
    assert {tuple(sorted(of["unit"])) for _, of in kept.groupby("network")} == {tuple(f"{k:04d}" for k in common)}
    assert kept["unit_2"].nunique() == 1
    index, key = distorting.common_list({"standard": [(0, torch.arange(60) % 2 != 0), (1, torch.arange(60) % 3 != 0)]})
    assert (index.tolist(), kept["unit_2"].iloc[0]) == (common, f"CL {key}")
    gauss = kept[kept["arm"] == "gauss"].set_index("unit")["reached"]
    assert [unit for unit, right in gauss.items() if right] == [f"{k:04d}" for k in common if k % 4]
    assert rows.loc[rows["quantity"] == "right@highpass", "value"].eq(0).all()
    assert set(rows.loc[rows["quantity"] == "right@highpass", "arm"]) == {"standard", "robust"}
    lost = rows[rows["quantity"].isin(["lost@high", "lost@contrast", "lost@high_minus_low"])]
    assert set(lost["arm"]) == {"standard", "robust", "gauss"}
    assert rows.loc[(rows["quantity"] == "a_texture") & (rows["network"] == "standard0000"), "value"].item() == pytest.approx(
        (0.5 - 0.25) / 0.75
    )


def test_an_answer_that_is_no_number_an_image_is_refused(study: Study) -> None:
    def wrong(network: nn.Module, shown: Stimuli) -> Mapping[str, Tensor]:
        return {"answers": torch.full((len(shown.x),), torch.nan)}

    with pytest.raises(BadInput, match=r"wrong gives 'answers' of shape \(120,\) for 120 images: one finite number an image is needed"):
        asking.conflicts(study, {"": {"standard": [Knows("standard", 0)]}}, wrong)  # type: ignore[list-item]


def test_networks_are_asked_in_eval_mode_and_images_in_0_to_1() -> None:
    class Watches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert not self.training
            return x.flatten(1)[:, :4]

    network = Watches().train()
    x = torch.rand(7, 3, 4, 4)
    assert torch.equal(logits_of(network, x, batch_size=3), x.flatten(1)[:, :4])
    assert network.training
    with pytest.raises(BadInput, match=r"not in \[0, 1\]: divide bytes by 255"):
        logits_of(network, 255 * x)
    with pytest.raises(BadInput, match=r"logits for images \[2\] are not finite, so they name no class"):
        logits_of(nn.Sequential(nn.Flatten(), Minus()), torch.cat([x[:2], torch.zeros(1, 3, 4, 4)]))


class Minus(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :4] / x.sum(dim=1, keepdim=True)


def test_every_distortion_of_the_notebook_keeps_images_in_0_to_1() -> None:
    x = torch.rand(3, 3, 32, 32)
    for change in (lambda x: distort.scramble(x, distort.DERANGEMENTS[2]), lambda x: distort.highpass(x, 1.5)):
        assert 0 <= float(change(x).min()) <= float(change(x).max()) <= 1
        with pytest.raises(BadInput):
            distort.highpass(4 * x - 2, 1.5)


there = {one["name"]: one["found"] for one in data.status()}


@pytest.mark.skipif(
    not (there["cue_conflict"] and there["cifar10"]), reason="the cue-conflict stimuli and CIFAR-10 are not here (REPROLIB_DATA)"
)
def test_photographs_are_exactly_210_stimuli_30_a_shape_and_70_outlines() -> None:
    study = reprolib.start("shape_bias", {"scale": "cifar"})
    sets, outlines = stimuli.conflicts(study), stimuli.outlines(study)
    assert {at: (len(of.x), len(of.allowed)) for at, of in sets.items()} == {"": (210, 7), "@10": (210, 10)}
    assert torch.bincount(sets[""].shape).tolist() == [30] * 7
    assert not (sets[""].shape == sets[""].texture).any()
    assert sets[""].names == sets["@10"].names
    assert {name.partition("+")[0] for name in sets[""].names} == {"airplane", "automobile", "bird", "cat", "dog", "ship", "truck"}
    assert {name: len(of.x) for name, of in outlines.items()} == {"silhouettes": 70, "edges": 70}
    assert {of.x.shape[-1] for of in (*sets.values(), *outlines.values())} == {32}


def test_rows_are_a_frame_also_where_nothing_can_be_measured(study: Study) -> None:
    study.measured = "no (drawn from the committed rows)"
    assert isinstance(asking.conflicts(study, {}, says), pd.DataFrame)  # type: ignore[arg-type]
    assert distorting.distorted(study, {}, knows, {}).empty  # type: ignore[arg-type]
