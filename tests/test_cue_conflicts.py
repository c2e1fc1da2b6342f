"""The original cue-conflict stimuli put to anybody's network, on stand-ins of 8 px that carry their two categories as colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import reprolib
from reprolib import cue_conflicts
from reprolib.cue_conflicts import CSV, cue_conflict
from reprolib.data.cue_conflict import CATEGORIES, Stimuli
from reprolib.data.images import images
from reprolib.errors import BadInput, CorruptFile, MissingData
from reprolib.measures.shape_bias import IMAGENET_CLASSES, shape_bias

STEMS = list(cue_conflicts._stems())


class Reads(nn.Module):
    """Names the category that a colour channel carries: 0 the shape's, 1 the texture's."""

    def __init__(self, channel: int, logit_of: list[int], n: int) -> None:
        super().__init__()
        self.channel, self.n = channel, n
        self.register_buffer("logit_of", torch.tensor(logit_of))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (k, n)."""
        category = (255 * x[:, self.channel].mean(dim=(1, 2)) / 15).round().long()
        return 9.0 * nn.functional.one_hot(self.logit_of[category], self.n).float()


def imagenet(channel: int) -> Reads:
    return Reads(channel, [IMAGENET_CLASSES[name][0] for name in CATEGORIES], 1000)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    cues = torch.tensor([[CATEGORIES.index(name) for name in cue_conflicts._categories(stem)] for stem in STEMS])
    x = torch.zeros(len(STEMS), 3, 8, 8, dtype=torch.uint8)
    x[:, :2] = (15 * cues).to(torch.uint8)[:, :, None, None]
    kept = Stimuli(images(x, cues[:, 0], CATEGORIES, "cue_conflict"), tuple(CATEGORIES[k] for k in cues[:, 1].tolist()))
    monkeypatch.setattr(cue_conflicts.stimuli_of, "load", lambda: kept)


def test_names_of_stimuli_tell_both_categories() -> None:
    assert len(STEMS) == len(set(STEMS)) == 1280
    assert cue_conflicts._categories("cat7-elephant1") == ("cat", "elephant")
    assert cue_conflicts._categories("0001_dnn_cat7-elephant12") == ("cat", "elephant")


@pytest.mark.parametrize(("channel", "value"), [(0, 1.0), (1, 0.0)])
def test_a_network_that_reads_one_cue_has_its_bias_on_exactly_1200_stimuli(
    channel: int, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = reprolib.cue_conflict(reprolib.wrap(imagenet(channel), mean=(0, 0, 0), std=(1, 1, 1)), classes="imagenet", size_px=8)
    assert (answers.bias.value, answers.bias.n, answers.bias.coverage, answers.left_out) == (value, 1200, 1.0, 0)
    assert answers.bias.low <= value <= answers.bias.high
    assert set(answers.by_category["n"]) == {75}
    assert "copies of 96 px, enlarged or shrunk: no benchmark number" in capsys.readouterr().out


def test_answers_are_written_in_the_columns_of_model_vs_human(tmp_path: Path) -> None:
    answers = cue_conflict(imagenet(0), size_px=8)
    table = pd.read_csv(answers.to_csv(tmp_path / "mine.csv"), keep_default_na=False)
    assert tuple(table.columns) == CSV
    assert table["imagename"].iloc[0] == f"{STEMS[0]}.png"
    texture = [cue_conflicts._categories(Path(name).stem)[1] for name in table["imagename"]]
    assert shape_bias(table["category"].tolist(), texture, table["object_response"].tolist()) == answers.bias


def test_a_mapping_of_some_categories_leaves_out_and_counts_the_other_stimuli() -> None:
    cifar = Reads(0, [CATEGORIES.index(name) % 10 for name in CATEGORIES], 10)
    by_number = {"cat": [CATEGORIES.index("cat") % 10], "dog": [CATEGORIES.index("dog") % 10]}
    answers = cue_conflict(cifar, by_number, size_px=8)
    assert answers.left_out + len(answers.answers) == 1280
    assert set(answers.answers["shape"]) | set(answers.answers["texture"]) == {"cat", "dog"}
    named = cue_conflict(cifar, {"cat": ["cat"], "car": ["automobile"], "boat": ["ship"]}, size_px=8)
    assert set(named.answers["decision"]) <= {"cat", "car", "boat"}


def test_the_full_label_set_and_other_aggregations_can_be_asked() -> None:
    full = cue_conflict(Reads(0, [0] * 16, 1000), size_px=8, labels="full")
    assert set(full.answers["decision"]) == {""}
    assert "no shape bias" in str(full.bias)
    assert cue_conflict(imagenet(1), size_px=8, how="max").bias.value == 0


def test_a_model_in_training_mode_is_asked_in_eval_mode_and_handed_back() -> None:
    class Watches(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            assert not self.training
            assert not self[1].training
            return super().forward(x)

    model = Watches(imagenet(0), nn.Dropout(0.9)).train()
    assert cue_conflict(model, size_px=8).bias.value == 1
    assert model.training
    assert model[1].training


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        logits = imagenet(0)(x)
        logits[x[:, 0].mean(dim=(1, 2)) == 0] = torch.nan  # airplanes
        return logits


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: cue_conflict(Reads(0, [0] * 16, 10), size_px=8), 'the model gives 10 logits and classes="imagenet" needs 1000: give a mapping'),
        (lambda: cue_conflict(imagenet(0), "imagnet"), "classes='imagnet' is not allowed: give \"imagenet\", or a mapping"),
        (lambda: cue_conflict(imagenet(0), {"cat": [1], "aeroplane": [2]}), "category 'aeroplane' is none of the stimuli's.*did you mean 'airplane'"),
        (lambda: cue_conflict(imagenet(0), {"cat": [1]}), "1 category is given: two cues in conflict need at least 2 of the 16"),
        (lambda: cue_conflict(imagenet(0), {"cat": [1, 2], "dog": [2]}, 8), "logit 2 is in category 'cat' and in 'dog': give each to one"),
        (lambda: cue_conflict(imagenet(0), {"cat": [1], "dog": [1000]}, 8), "logit 1000 of category 'dog' is not one of the network's 1000"),
        (lambda: cue_conflict(imagenet(0), {"cat": [1], "dog": []}, 8), r"classes\['dog'\]=\[\] is no list of logits"),
        (lambda: cue_conflict(Reads(0, [0] * 16, 10), {"cat": ["cat"], "dog": ["dogs"]}, 8), "class 'dogs' of category 'dog' .* did you mean 'dog'"),
        (lambda: cue_conflict(Reads(0, [0] * 16, 7), {"cat": ["cat"], "dog": ["dog"]}, 8), "names are known of networks with 1000 logits"),
        (lambda: cue_conflict(Broken(), size_px=8), "the network's logits for airplane1-bicycle2, .* are not finite, so they name no class"),
        (lambda: cue_conflict(imagenet(0), size_px=0), "size_px=0 is not allowed: give a whole number of at least 1"),
    ],
)  # fmt: skip
def test_each_wrong_input_is_told_in_one_sentence(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        ask()


def test_a_folder_of_originals_is_known_by_its_names_and_size(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="holds none of the 1280 cue-conflict stimuli .* or leave stimuli= out for the copies"):
        cue_conflict(imagenet(0), stimuli=tmp_path)
    for stem in STEMS[1:]:
        (tmp_path / f"{stem}.png").touch()
    with pytest.raises(CorruptFile, match=f"holds 1279 of the 1280 stimuli, not {STEMS[0]}: fetch them all again"):
        cue_conflict(imagenet(0), stimuli=tmp_path)
    (tmp_path / f"{STEMS[0]}.png").write_bytes(b"no picture")
    with pytest.raises(CorruptFile, match=f"{STEMS[0]}.png cannot be read as a picture"):
        cue_conflict(imagenet(0), stimuli=tmp_path)
    Image.new("RGB", (96, 96)).save(tmp_path / f"{STEMS[0]}.png")
    with pytest.raises(BadInput, match="has 96 x 96 px: the original stimuli have 224 x 224"):
        cue_conflict(imagenet(0), stimuli=tmp_path)


def test_the_plot_draws_a_mark_a_category_and_the_references(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, texture = cue_conflict(imagenet(0), size_px=8), cue_conflict(imagenet(1), size_px=8)
    figure = shape.plot({"theirs": texture})
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == list(CATEGORIES)
    assert {float(line.get_xdata()[0]) for line in ax.lines} == {0.0, 1.0, 1 - 0.2207, 1 - 0.9587}


def test_the_size_of_stimuli_is_what_is_asked_for_whatever_the_network_is_called() -> None:
    sizes = set()

    class AlexNet(Reads):
        def forward(self, x: Tensor) -> Tensor:
            sizes.add(tuple(x.shape[2:]))
            return super().forward(x)

    net = AlexNet(0, [IMAGENET_CLASSES[name][0] for name in CATEGORIES], 1000)
    for size_px in (12, 15):
        cue_conflict(net, size_px=size_px)
    assert sizes == {(12, 12), (15, 15)}


def test_people_and_resnet_50_are_drawn_only_beside_answers_among_all_16_categories() -> None:
    def words(answers: cue_conflicts.CueConflict) -> set[str]:
        return {text.get_text() for text in answers.plot().axes[0].texts}

    assert words(cue_conflict(imagenet(0), size_px=8)) == {"ResNet-50", "humans"}
    assert words(cue_conflict(imagenet(0), {"cat": IMAGENET_CLASSES["cat"], "dog": IMAGENET_CLASSES["dog"]}, size_px=8)) == set()
