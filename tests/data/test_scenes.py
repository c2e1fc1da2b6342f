"""Concept scenes cross shape, texture and colour, label every pixel exactly, and hold texture and object apart in a third."""

import dataclasses
import hashlib
import itertools
from functools import cache

import problems
import pytest
import torch

from reprolib.data import scenes, shapes, shapetexture, textures
from reprolib.data.hues import HUE_NAMES, hue_bin
from reprolib.data.scenes import CATEGORIES, Scenes, random_masks, render
from reprolib.data.shapetexture import World, world_of
from reprolib.errors import BadInput

WORLD = World(seed=1)


@cache
def some(n: int = 180, world: World = WORLD) -> Scenes:
    return render(world, range(n))


def layer(batch: Scenes, category: str) -> torch.Tensor:
    return batch.labels[:, CATEGORIES.index(category)]


def of_kind(batch: Scenes, *kinds: str) -> torch.Tensor:
    return torch.tensor([kind in kinds for kind in batch.kind])


def test_a_scene_depends_on_seed_and_index_only():
    part = render(WORLD, [17, 3, 30])
    assert torch.equal(part.image, some().image[[17, 3, 30]])
    assert torch.equal(part.labels, some().labels[[17, 3, 30]])
    assert not torch.equal(render(dataclasses.replace(WORLD, seed=5), [3]).image, some().image[[3]])


@pytest.mark.parametrize(("n_shapes", "n_textures"), [(8, 8), (4, 4), (2, 2)])
def test_shape_texture_and_colour_are_fully_crossed(n_shapes, n_textures):
    rounds = n_shapes * n_textures * 11
    for start in (0, 88, 176):
        triples = [scenes.crossing(j, n_shapes, n_textures) for j in range(start, start + rounds)]
        assert len(set(triples)) == rounds
        first = triples[: 11 * n_shapes]
        for a, b in itertools.combinations(range(3), 2):
            sizes = (n_shapes, n_textures, 11)
            assert len({(t[a], t[b]) for t in first}) == sizes[a] * sizes[b]


def test_eight_hundred_scenes_show_every_triple():
    """Read off the labels: the texture and colour of each object, or of the scene where they are held apart."""
    batch, seen = some(800), set()
    for i, kind in enumerate(batch.kind):
        labels = dict(zip(CATEGORIES, batch.labels[i], strict=True))
        for shape in labels["object"].unique().tolist():
            if shape:
                where = labels["object"] == shape
                textured = where if kind in ("single", "several") else labels["texture"] > 0
                (texture,), (colour,) = labels["texture"][textured].unique().tolist(), labels["colour"][where].unique().tolist()
                seen.add((shape, texture, colour))
    assert len(seen) == 8 * 8 * 11


def test_scenes_are_those_of_version_2():
    """A difference means that the scenes changed: raise `shapetexture.VERSION`, and then this hash."""
    assert shapetexture.VERSION == 2
    batch = render(WORLD, range(60))
    assert hashlib.sha256(batch.image.numpy().tobytes() + batch.labels.numpy().tobytes()).hexdigest()[:16] == "290c25c01dc19255"


def test_a_third_of_the_scenes_hold_texture_and_object_apart():
    batch = some()
    both = ((layer(batch, "texture") > 0) & (layer(batch, "object") > 0)).flatten(1).any(dim=1)
    has_both = (layer(batch, "texture") > 0).flatten(1).any(dim=1) & (layer(batch, "object") > 0).flatten(1).any(dim=1)
    assert has_both.all()
    assert (~both).double().mean() == pytest.approx(1 / 3)
    assert torch.equal(~both, of_kind(batch, "blob", "frame"))


def test_texture_is_everywhere_but_in_the_object_of_a_frame_scene():
    batch = some()
    rows = of_kind(batch, "frame")
    assert torch.equal(layer(batch, "texture")[rows] > 0, layer(batch, "object")[rows] == 0)


def test_every_pixel_has_one_colour_and_a_figure_never_that_of_its_ground():
    batch = some()
    colour, figure = layer(batch, "colour"), (layer(batch, "object") > 0) | (layer(batch, "texture") > 0)
    figure[of_kind(batch, "frame")] &= layer(batch, "object")[of_kind(batch, "frame")] > 0
    assert colour.min() == 1
    assert colour.max() == len(HUE_NAMES)
    for i, kind in enumerate(batch.kind):
        own, ground = set(colour[i][figure[i]].tolist()), set(colour[i][~figure[i]].tolist())
        assert (len(own), len(ground)) == (2 if kind == "several" else 1, 1)
        assert not own & ground


def test_colour_labels_are_those_of_the_pixels():
    """The mean colour of each label's pixels has the hue of its bin, as far as the ground's field lets it."""
    batch = some()
    colour, x = layer(batch, "colour"), batch.image.double()
    right = []
    for i in range(len(batch)):
        for label in colour[i].unique().tolist():
            red, green, blue = x[i][:, colour[i] == label].mean(dim=1)
            angle = torch.atan2((3**0.5) * (green - blue), 2 * red - green - blue) / (2 * torch.pi)
            apart = (hue_bin(angle % 1) + 1 - label + 5) % 11 - 5
            right.append(abs(int(apart)) <= 1)
    assert len(right) > 2 * len(batch)
    assert sum(right) / len(right) > 0.97


def test_figures_are_brighter_than_the_ground():
    batch = some()
    for i, kind in enumerate(batch.kind):
        x, figure = batch.image[i].double().mean(dim=0), layer(batch, "object")[i] > 0
        ground = ~figure & (layer(batch, "texture")[i] == 0) if kind != "frame" else ~figure
        assert x[figure].mean() - x[ground].mean() > 255 * 0.2


def test_texture_labels_are_where_the_texture_is_and_nowhere_else():
    """Scenes without texture contrast differ from these inside the texture label alone, but for outlines."""
    plain = render(dataclasses.replace(WORLD, c=0.0), range(180)).image.double()
    changed = (some().image.double() - plain).abs().amax(dim=1)
    label = (layer(some(), "texture") > 0).float()[:, None]
    near = torch.nn.functional.max_pool2d(label, 3, 1, 1)[:, 0] > 0
    assert (changed[~near] > 0).double().mean() < 1e-3
    assert (changed[label[:, 0] > 0] > 2).double().mean() > 0.8


def test_parts_lie_on_the_outlines_of_objects():
    batch = some()
    part, figure = layer(batch, "part"), layer(batch, "object")
    outline = torch.from_numpy(shapes.boundary((figure > 0).numpy()))
    assert torch.equal(part > 0, outline)
    assert set(part.unique().tolist()) == {0, 1, 2, 3}


def test_areas_of_shapes_and_textures_are_balanced():
    """Over 528 scenes each shape, texture and colour covers its equal share, to a tenth."""
    batch = some(528)
    for category, n in (("object", 8), ("texture", 8), ("colour", 11)):
        area = torch.stack([(layer(batch, category) == 1 + k).double().sum() for k in range(n)])
        assert (area / area.mean() - 1).abs().max() < 0.1, category


def test_small_worlds_have_scenes_too():
    world = world_of("shapetexture_gratings", "test")
    batch = some(64, world)
    assert batch.image.shape == (64, 3, 16, 16)
    assert set(layer(batch, "object").unique().tolist()) == {0, 1, 2, 3, 4}


def test_concepts_come_in_order_with_their_masks():
    batch = some()
    found = list(batch.concepts())
    assert [(category, name) for category, name, _ in found] == [(c, name) for c in CATEGORIES for name in batch.names[c]]
    assert len(found) == 11 + 8 + 8 + 3
    assert sum(mask for category, _, mask in found if category == "colour").double().mean() == 1
    assert batch.names["texture"] == WORLD.textures
    assert set(batch.names["texture"]) <= set(textures.TEXTURES)


def test_random_masks_keep_areas_and_lose_their_places():
    mask = layer(some(), "object") == 4
    dealt = random_masks(mask, problems.generator())
    assert sorted(dealt.sum(dim=(1, 2)).tolist()) == sorted(mask.sum(dim=(1, 2)).tolist())
    overlap = (dealt & mask).sum() / (dealt | mask).sum()
    assert overlap < 0.1
    assert torch.equal(dealt, random_masks(mask, problems.generator()))
    assert not torch.equal(dealt, random_masks(mask, problems.generator(1)))


def test_bad_indices_are_refused():
    with pytest.raises(BadInput, match="indices are -2: allowed is at least one index, none below 0"):
        render(WORLD, [1, -2])
    with pytest.raises(BadInput, match="indices are empty"):
        render(WORLD, [])
