"""Dissection: exact quantiles in flat memory, planted detectors, and the traps of counting overlaps."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable

import numpy as np
import problems
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.measures import dissection, order_statistics
from reprolib.measures.dissection import Overlaps


def rectangles(n: int, side: int, area: tuple[int, int], seed: int) -> Tensor:
    """Masks (n, side, side) of one rectangle each, anywhere."""
    generator, mask = problems.generator(seed), torch.zeros(n, side, side, dtype=torch.bool)
    for k in range(n):
        top, left = (int(torch.randint(side - length + 1, (1,), generator=generator)) for length in area)
        mask[k, top : top + area[0], left : left + area[1]] = True
    return mask


def asked(maps: Tensor, masks: Tensor, batch: int = 16, q: float = 0.005, draws: Tensor | None = None) -> Overlaps:
    """Overlaps of one layer; masks (k, n, h, w)."""

    def batches() -> Iterable[dissection.Batch]:
        return (({"layer": x}, m) for x, m in zip(maps.split(batch), masks.split(batch, dim=1), strict=True))

    return dissection.overlaps(batches, dissection.thresholds(batches, (q,)), draws)["layer"]


MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "as they come": lambda x: x, "post-activation": torch.relu, "ties": lambda x: x.round(decimals=1), "constant": lambda x: 0 * x + 3.1,
    "dead": lambda x: 0 * x, "one bin": lambda x: -5 + 1e-6 * x, "far outliers": lambda x: x + 1e6 * (x > 3),
    "a silent first batch": lambda x: x.relu() * (torch.arange(len(x)) > 16)[:, None, None, None],
}  # fmt: skip


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("level", [0, 0.5, 0.995, 1])
def test_the_quantile_is_exactly_numpys_higher(kind: str, level: float) -> None:
    x = MAPS[kind](torch.randn(37, 5, 7, 9, generator=problems.generator(0)))
    wanted = np.quantile(x.movedim(1, 0).flatten(1).numpy(), level, axis=1, method="higher")
    for batch in (1, 16, 37):
        assert (dissection.quantile(lambda batch=batch: x.split(batch), level).numpy() == wanted).all()  # type: ignore[misc]


def test_at_most_the_asked_share_lies_strictly_above_a_threshold() -> None:
    x = torch.randn(50, 4, 10, 20, generator=problems.generator(1))
    x[:, 1] = x[:, 1].relu() * (x[:, 1] > 2.9)  # more than .995 are 0, and .001 to .005 are not
    x[:, 2] = (x[:, 2] > 3.2).float()  # fewer than .001
    x[:, 3] = 0.7
    masks = rectangles(50, 8, (2, 2), 0)[None]
    of = asked(x, torch.cat([masks, ~masks])).thresholds
    flat = x.movedim(1, 0).flatten(1)
    assert of.share[0].tolist() == [50 / 10_000, *[float((flat[k] > 0).double().mean()) for k in (1, 2)], 0]
    assert of.value[0, 1:].tolist() == [0, 0, torch.tensor(0.7)]
    assert of.skipped[0].tolist() == [False, False, True, True]
    assert of.n == 10_000


def test_a_first_batch_without_activations_costs_neither_time_nor_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    x = F.relu(torch.randn(40, 6, 16, 16, generator=problems.generator(0))) * torch.tensor([1e-3, 1, 50, 1e4, 1e-9, 1e30])[:, None, None]
    x[:2] = 0
    kept: list[int] = []
    keep = order_statistics.Counted.keep

    def counted(self: order_statistics.Counted, some: torch.Tensor) -> None:
        keep(self, some)
        kept.append(sum(map(len, self.keys)))

    monkeypatch.setattr(order_statistics.Counted, "keep", counted)
    of = dissection.thresholds(lambda: (({"layer": some}, torch.zeros(0)) for some in x.split(2)), (0.005,))["layer"]
    ordered = x.movedim(1, 0).flatten(1).sort(dim=1).values
    assert torch.equal(of.value[0], ordered[:, -1 - 51])  # 51 of 10,240 lie above
    assert kept[-1] < 0.01 * x.numel()
    tiny = torch.full((40, 1, 16, 16), 1e-38) * torch.arange(40)[:, None, None, None]
    assert dissection.quantile(lambda: tiny.split(2), 1.0) == tiny.max()


def test_a_unit_that_is_a_concept_of_just_that_area_has_iou_1() -> None:
    mask = rectangles(40, 20, (1, 2), 0)  # .005 of all pixels
    other = rectangles(40, 20, (4, 4), 1)
    of = asked(mask[:, None].float(), torch.stack([other, mask]))
    own = dissection.labels(of)
    assert (own.best[0, 0], own.iou[0, 0], own.inside[0, 0], of.thresholds.share[0, 0]) == (1, 1, 1, 0.005)
    assert dissection.ceilings(of).tolist() == pytest.approx([0.005 / 0.04, 1])


@pytest.mark.parametrize("coincide", [0, 30])
def test_a_planted_detector_is_named_and_no_other(coincide: int) -> None:
    n, side = 60, 16
    concepts = torch.stack([rectangles(n, side, (3, 3), seed) for seed in range(6)])
    concepts[3, :coincide] = concepts[2, :coincide]  # the masks of two concepts are the same in half the images
    noise = torch.rand(n, 6, side, side, generator=problems.generator(9))
    maps = noise.clone()
    for unit, concept in ((1, 2), (4, 3)):
        maps[:, unit] += 2.0 * concepts[concept]
    own = dissection.labels(asked(maps, concepts))
    assert (own.iou[0] >= dissection.DETECTS).tolist() == [False, True, False, False, True, False]
    assert own.best[0, [1, 4]].tolist() == [2, 3]
    assert not own.tied[0, [1, 4]].any()


def test_iou_is_the_ratio_of_sums_and_not_the_mean_of_ratios() -> None:
    maps, mask = torch.zeros(2, 1, 40, 40), torch.zeros(2, 40, 40, dtype=torch.bool)
    maps[0, 0, 0, :2] = maps[1, 0, 0, :10] = 1.0
    mask[0, 0, :2] = mask[1, 0, 5:25] = True  # 2 / 2 in one image, 5 / 25 in the other
    of = asked(maps, torch.stack([mask, ~mask]))
    assert of.iou[0, 0, 0] == pytest.approx(7 / 27)


def test_an_independent_mask_overlaps_by_chance() -> None:
    masks = torch.rand(2, 80, 32, 32, generator=problems.generator(0)) < 0.3
    maps = torch.rand(80, 3, 32, 32, generator=problems.generator(1))
    q, p = 0.02, 0.3
    assert asked(maps, masks, q=q).iou.flatten().tolist() == pytest.approx([q * p / (q + p - q * p)] * 6, rel=0.15)


def test_batches_do_not_matter_and_draws_count_images() -> None:
    maps = F.relu(torch.randn(37, 8, 6, 6, generator=problems.generator(0)))
    masks = torch.stack([rectangles(37, 16, (4, 5), seed) for seed in range(3)])
    weights = torch.stack([torch.ones(37), torch.arange(37) % 2]).float()
    one, other = (asked(maps, masks, batch, q=0.02, draws=weights) for batch in (16, 37))
    for name in ("inside", "active", "area"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    plain = asked(maps, masks, q=0.02)
    assert torch.equal(one.inside[:, 0], plain.inside)
    assert torch.equal(one.iou[:, 0], plain.iou)
    up = F.interpolate(maps, (16, 16), mode="bilinear", align_corners=False) > plain.thresholds.value[0][:, None, None]
    both = torch.stack([(up[1::2] & mask[1::2, None]).sum(dim=(0, 2, 3)) for mask in masks], dim=1)
    assert torch.equal(one.inside[0, 1].long(), both)
    assert torch.equal(one.area[1].long(), masks[:, 1::2].sum(dim=(1, 2, 3)))


def test_maps_are_resized_before_the_threshold_without_aligned_corners() -> None:
    delta = torch.zeros(1, 4, 4)
    delta[0, 1, 2] = 1.0
    ramp = [0, 0, 0.125, 0.375, 0.625, 0.875, 0.875, 0.625, 0.375, 0.125]  # 16 px over 4: the middles of pixels are at 2, 6, 10, 14
    found = dissection.resized(delta, (16, 16))[0]
    assert found.amax(dim=1)[:10].tolist() == pytest.approx([value * 0.875 for value in ramp])
    wide = torch.rand(5, 3, 7, generator=problems.generator(0))
    assert torch.allclose(dissection.resized(wide, (9, 12)), F.interpolate(wide[None], (9, 12), mode="bilinear")[0], atol=1e-6)


def test_lines_of_one_pixel_become_lines_of_three() -> None:
    mask = torch.zeros(1, 7, 7, dtype=torch.bool)
    mask[0, 3, 2:5] = mask[0, 0, 0] = True
    wanted = torch.zeros(1, 7, 7, dtype=torch.bool)
    wanted[0, 2:5, 1:6] = wanted[0, :2, :2] = True
    assert torch.equal(dissection.dilated(mask), wanted)


def test_dead_units_are_told_and_overlap_with_nothing() -> None:
    maps = torch.rand(20, 3, 16, 16, generator=problems.generator(0))
    maps[:, 1] = 0
    of = asked(maps, torch.stack([rectangles(20, 16, (4, 4), seed) for seed in range(2)]))
    assert of.thresholds.dead.tolist() == [False, True, False]
    assert of.iou[0, 1].tolist() == [0, 0]


def test_variety_and_rarefied_concepts_of_known_labels() -> None:
    labels = [3, 3, 3, 5, 7, 7]
    assert dissection.variety(labels).tolist() == pytest.approx([0.6, 0.6, 0.6, 1, 0.8, 0.8])
    assert dissection.rarefied(labels, 2) == pytest.approx(1 + float(dissection.variety(labels).mean()))
    assert [dissection.rarefied(labels, size) for size in (1, 6)] == pytest.approx([1, 3])
    assert dissection.rarefied(labels, 3) == pytest.approx(3 - (1 / 20 + 10 / 20 + 4 / 20))  # draws without 3, 5, 7: 1, 10, 4 of 20
    for wrong in ([], [1]):
        with pytest.raises(BadInput, match=rf"{len(wrong)} detector: variety needs two at least"):
            dissection.variety(wrong)
    with pytest.raises(BadInput, match="size=7 is not allowed: give 1 to 6"):
        dissection.rarefied(labels, 7)


def test_low_level_share_of_live_detectors() -> None:
    best, iou = torch.tensor([0, 1, 1, 2]), torch.tensor([0.1, 0.04, 0.03, 0.5])
    live = torch.tensor([True, True, True, False])
    rate, low = dissection.low_share(best, iou, torch.tensor([True, False, True]), live)
    assert (float(rate), float(low)) == pytest.approx((2 / 3, 1 / 3))


def test_what_is_held_does_not_grow_with_the_images() -> None:
    def most_held(n: int) -> int:
        sizes: list[int] = []

        def batches() -> Iterable[dissection.Batch]:
            for k in range(n):
                generator = problems.generator(k)
                yield {"a": torch.randn(16, 8, 8, 8, generator=generator).relu()}, torch.rand(2, 16, 16, 16, generator=generator) < 0.05
            sizes.append(sum(one.nbytes for one in gc.get_objects() if type(one) is Tensor))

        dissection.overlaps(batches, dissection.thresholds(batches))
        return max(sizes)

    before = sum(one.nbytes for one in gc.get_objects() if type(one) is Tensor)
    few, many = (most_held(n) - before for n in (6, 24))
    assert 0 < many <= 1.1 * few


@pytest.mark.parametrize("q", [0, 1, -0.1, 5])
def test_a_quantile_that_is_no_share_is_refused(q: float) -> None:
    with pytest.raises(BadInput, match=rf"quantile={q} is not allowed: give the share .* in \(0, 1\)"):
        asked(torch.rand(8, 2, 16, 16), torch.zeros(2, 8, 16, 16, dtype=torch.bool), q=q)


def test_too_few_positions_above_a_threshold_and_values_that_are_not_finite_are_refused() -> None:
    masks = torch.zeros(2, 24, 16, 16, dtype=torch.bool)
    with pytest.raises(BadInput, match=r"quantile=0.005 leaves 7 of the 1536 positions of layer 'layer' .*: at least 8 are needed"):
        asked(torch.rand(24, 2, 8, 8), masks)
    maps = torch.rand(24, 2, 16, 16)
    maps[3, 1, 0, 0] = torch.inf
    with pytest.raises(BadInput, match="layer 'layer' holds values that are not finite"):
        asked(maps, masks)
    fixed = torch.rand(24, 2, 16, 16)
    with pytest.raises(BadInput, match="layer 'layer' has 24 maps for masks of 23 images"):
        dissection.overlaps(lambda: [({"layer": fixed}, masks[:, 1:])], dissection.thresholds(lambda: [({"layer": fixed}, masks)]))
    drawn = iter([0 * fixed, 1 - fixed])
    with pytest.raises(BadInput, match="layer 'layer' gives other values when the same images are shown again"):
        dissection.thresholds(lambda: [({"layer": next(drawn)}, masks)])
    with pytest.raises(BadInput, match="there is no batch of images, or no layer"):
        dissection.thresholds(list)
