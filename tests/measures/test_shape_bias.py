"""Shape bias against counts that others published, closed forms, and the traps of counting it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import torch

from reprolib.data.cue_conflict import CATEGORIES
from reprolib.errors import BadInput
from reprolib.measures.shape_bias import (
    IMAGENET_CLASSES,
    OTHER,
    by_category,
    decisions,
    graded_preference,
    shape_bias,
    to_categories,
)

# Decisions by shape and by texture of torchvision's ResNet-50 on the 75 conflict stimuli of each shape category (counted from public trials).
RESNET50 = {
    "airplane": (0, 40), "bear": (2, 38), "bicycle": (6, 25), "bird": (1, 44), "boat": (5, 34), "bottle": (36, 28), "car": (21, 30),
    "cat": (2, 38), "chair": (4, 41), "clock": (37, 15), "dog": (10, 39), "elephant": (2, 37), "keyboard": (6, 44), "knife": (0, 43),
    "oven": (6, 39), "truck": (24, 37),
}  # fmt: skip


def spread(total: int, room: int = 75) -> list[int]:
    """A total over the 16 categories."""
    assert total <= 16 * room
    return [total // 16 + (k < total % 16) for k in range(16)]


def trials(counts: dict[str, tuple[int, int]], each: int = 75) -> tuple[list[str], list[str], list[str]]:
    """Stimuli of every shape, five of every other texture, with so many decisions by shape and by texture; five without conflict besides."""
    shape, texture, decision = [], [], []
    for category, (by_shape, by_texture) in counts.items():
        others = [name for name in CATEGORIES if name != category]
        for k in range(each):
            shape.append(category)
            texture.append(others[k % 15])
            third = others[(k + 1) % 15]
            decision.append(category if k < by_shape else texture[-1] if k < by_shape + by_texture else third)
        shape, texture, decision = shape + [category] * 5, texture + [category] * 5, decision + [category] * 5
    return shape, texture, decision


@pytest.mark.parametrize(
    ("n_shape", "n_texture", "value", "each"),
    [(162, 572, 0.2207, 75), (182, 537, 0.2531, 75), (283, 376, 0.4294, 75), (84, 828, 0.0921, 75), (586, 141, 0.8061, 75),
     (9236, 398, 0.9587, 750)],
    ids=["ResNet-50", "AlexNet", "AlexNet of Caffe", "VGG-16", "ResNet-50 on stylised images", "ten humans"],
)  # fmt: skip
def test_recorded_counts_give_the_recorded_bias(n_shape: int, n_texture: int, value: float, each: int) -> None:
    counts = dict(zip(CATEGORIES, zip(spread(n_shape, each), spread(n_texture, each), strict=True), strict=True))
    found = shape_bias(*trials(RESNET50 if n_shape == 162 else counts, each))
    assert (found.n_shape, found.n_texture, found.n) == (n_shape, n_texture, 16 * each)  # those without conflict never count
    assert round(found.value, 4) == value
    assert found.coverage == (n_shape + n_texture) / (16 * each)
    assert found.low < found.value < found.high


def test_categories_apart_add_up() -> None:
    found = by_category(*trials(RESNET50)).set_index("category")
    assert {name: tuple(row) for name, row in found[["n_shape", "n_texture"]].astype(int).T.items()} == RESNET50
    assert set(found["n"]) == {75}
    assert found["shape_bias"]["clock"] == pytest.approx(37 / 52)
    nothing = by_category(["cat", "dog"], ["dog", "cat"], ["oven", "dog"]).set_index("category")
    assert math.isnan(nothing["shape_bias"]["cat"])


def pairs(n_categories: int) -> tuple[list[str], list[str]]:
    """Every ordered pair of different categories."""
    names = CATEGORIES[:n_categories]
    both = [(a, b) for a in names for b in names if a != b]
    return [a for a, _ in both], [b for _, b in both]


def test_predictors_whose_bias_is_known() -> None:
    shape, texture = pairs(16)
    assert shape_bias(shape, texture, shape).value == 1
    assert shape_bias(shape, texture, texture).value == 0
    always = shape_bias(shape, texture, ["cat"] * len(shape))  # 15 pairs have its shape, 15 its texture
    assert (always.value, always.coverage) == (0.5, 2 * 15 / (16 * 15))
    generator = np.random.default_rng(0)
    many = 40
    drawn = shape_bias(shape * many, texture * many, [CATEGORIES[k] for k in generator.integers(0, 16, many * len(shape))])
    assert drawn.value == pytest.approx(0.5, abs=0.05)
    assert drawn.coverage == pytest.approx(2 / 16, abs=0.01)


def test_without_an_answer_by_a_cue_there_is_no_bias_and_the_reason_is_said() -> None:
    found = shape_bias(["cat", "dog"], ["dog", "cat"], ["oven", OTHER])
    assert math.isnan(found.value)
    assert math.isnan(found.low)
    assert found.coverage == 0
    assert "no shape bias, for none of 2 stimuli was named by its shape or its texture" in str(found)


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(BadInput, match="2 shapes, 1 textures and 2 decisions: give one of each a stimulus"):
        shape_bias(["cat", "dog"], ["dog"], ["cat", "cat"])
    with pytest.raises(BadInput, match="none of 1 stimuli has a shape and a texture of different categories"):
        shape_bias(["cat"], ["cat"], ["cat"])


def test_the_table_of_classes_is_the_published_one() -> None:
    sizes = {"airplane": 1, "bear": 4, "bicycle": 2, "bird": 49, "boat": 5, "bottle": 7, "car": 3, "cat": 6, "chair": 4, "clock": 3,
             "dog": 109, "elephant": 2, "keyboard": 2, "knife": 1, "oven": 1, "truck": 8}  # fmt: skip
    assert {name: len(classes) for name, classes in IMAGENET_CLASSES.items()} == sizes
    numbers = [k for classes in IMAGENET_CLASSES.values() for k in classes]
    assert (len(numbers), len(set(numbers)), min(numbers) >= 0, max(numbers) < 1000) == (207, 207, True, True)
    assert tuple(IMAGENET_CLASSES) == CATEGORIES


def test_the_table_names_the_classes_that_its_categories_mean() -> None:
    from torchvision.models import ResNet18_Weights

    names: Sequence[str] = ResNet18_Weights.DEFAULT.meta["categories"]
    for category, words in {"airplane": "airliner", "knife": "cleaver", "oven": "rotisserie", "elephant": "elephant", "bear": "bear",
                            "keyboard": "keyboard", "clock": "clock"}.items():  # fmt: skip
        assert all(words in names[k] for k in IMAGENET_CLASSES[category]), category


def test_mean_sum_and_max_of_the_classes_differ() -> None:
    members = {"few": [0], "many": [1, 2, 3, 4], "one of two": [5, 6]}
    chances = torch.tensor([[0.2, 0.12, 0.12, 0.12, 0.12, 0.32, 0.0]]).clamp(min=1e-9)
    said = {how: decisions(chances.log(), members, how)[0] for how in ("mean", "sum", "max")}
    assert said == {"mean": "few", "sum": "many", "max": "one of two"}
    assert to_categories(chances.log(), members).tolist() == [pytest.approx([0.2, 0.12, 0.16], rel=1e-6)]
    with pytest.raises(BadInput, match="how='median' is not allowed: give one of mean, sum, max"):
        to_categories(chances, members, "median")


def test_the_full_label_set_leaves_classes_of_no_category_unanswered() -> None:
    logits = torch.zeros(2, 1000)
    logits[0, 0], logits[1, 404] = 9.0, 9.0  # tench; airliner
    logits[0, 404] = 8.0
    assert decisions(logits, labels="full") == [OTHER, "airplane"]
    assert decisions(logits) == ["airplane", "airplane"]
    with pytest.raises(BadInput, match="labels='all' is not allowed: give one of restricted, full"):
        decisions(logits, labels="all")


def test_graded_preference_follows_the_logits_and_not_their_scale() -> None:
    logits = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    shape, texture = torch.arange(50) % 8, (torch.arange(50) + 3) % 8
    found = graded_preference(logits, shape, texture)
    assert torch.allclose(found, graded_preference(7 * logits + 2, shape, texture))
    assert torch.allclose(found, -graded_preference(logits, texture, shape))
    assert found[0] == pytest.approx(float((logits[0, 0] - logits[0, 3]) / logits.std()), rel=1e-5)
    with pytest.raises(BadInput, match=r"all logits of shape \(4, 3\) are alike"):
        graded_preference(torch.ones(4, 3), torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.long))


def test_counting_uses_no_removed_call_of_pandas() -> None:
    assert not hasattr(pd.DataFrame, "append")  # the tests run on a release that has dropped it
