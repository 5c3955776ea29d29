"""The scenes are what they say: repeatable, balanced, and their masks true to the pixel."""

import doctest
import importlib
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pellucid.shapes import CLASSES, scenes
from pellucid.shapes.outlines import OUTLINES, REACH
from pellucid.shapes.paint import coverage

# `pellucid.shapes.scenes` as an attribute is the function, hence by name.
module = importlib.import_module("pellucid.shapes.scenes")


def dilated(masks: torch.Tensor) -> torch.Tensor:
    """Masks grown by two pixels: a sharp tip can color a pixel or two before it covers a pixel's center."""
    return F.max_pool2d(masks.float(), 5, stride=1, padding=2).bool()


def changed(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a != b).any(1, keepdim=True)


def test_types_shapes_and_ranges():
    batch = scenes(4, size=64, objects=2)
    assert batch.images.shape == (4, 3, 64, 64)
    assert batch.images.dtype == torch.float32
    assert batch.images.min() >= 0
    assert batch.images.max() <= 1
    assert batch.labels.shape == (4,)
    assert batch.labels.dtype == torch.int64
    assert batch.masks.shape == batch.marker_masks.shape == (4, 1, 64, 64)
    assert batch.object_masks.shape == (4, 2, 64, 64)
    assert batch.masks.dtype == batch.object_masks.dtype == batch.marker_masks.dtype == torch.bool
    assert batch.object_labels.shape == (4, 2)
    assert len(batch) == 4
    assert repr(batch) == "Scenes(n=4, size=64, objects=2)"


def test_main_object_is_object_0():
    batch = scenes(10, objects=3)
    assert torch.equal(batch.labels, batch.object_labels[:, 0])
    assert torch.equal(batch.masks, batch.object_masks[:, :1])


@pytest.mark.parametrize("options", [{}, {"objects": 2, "size": 48}, {"marker": "star", "marker_fraction": 0.5}])
def test_scene_depends_on_seed_number_and_options_alone(options):
    few, many = scenes(5, seed=1, **options), scenes(13, seed=1, **options)
    for name in vars(few):
        assert torch.equal(getattr(few, name), getattr(many, name)[:5]), name


@pytest.mark.slow
def test_seeds_and_numbers_give_different_scenes():
    images = torch.cat([scenes(20, seed=seed).images for seed in (0, 1, 20)])
    assert len(torch.unique(images.flatten(1), dim=0)) == 60


def test_ten_scenes_show_every_class_once():
    labels = scenes(30, seed=5, size=32).labels.view(3, 10)
    assert torch.equal(labels.sort(1).values, torch.arange(10).expand(3, 10))
    assert not torch.equal(labels[0], labels[1])


@pytest.mark.parametrize("name", CLASSES)
def test_outline_has_area_one_and_its_centroid_at_zero(name):
    size, side = 400, 2.4
    window, inside = coverage(lambda x, y: OUTLINES[name](x * side, y * side) / side, np.float32([0.5, 0.5]), 0.5, size)
    assert inside.shape == (size, size)
    assert inside.sum() * (side / size) ** 2 == pytest.approx(1, abs=2e-3)
    y, x = np.mgrid[window] * side / size - side / 2
    assert (inside * x).sum() / inside.sum() == pytest.approx(0, abs=6e-3)
    assert (inside * y).sum() / inside.sum() == pytest.approx(0, abs=6e-3)
    assert np.hypot(x, y)[inside > 0.5].max() < REACH + side / size


@pytest.mark.parametrize("name", CLASSES)
def test_outline_is_a_distance_where_edges_are_drawn(name):
    # Antialiasing reads coverage off the distance; it is right only if its slope is 1 near the edge.
    step = 1e-3
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 20000)).astype(np.float32)
    distance = OUTLINES[name](x, y)
    slope = np.hypot(OUTLINES[name](x + step, y) - distance, OUTLINES[name](x, y + step) - distance) / step
    assert np.median(slope[np.abs(distance) < 0.02]) == pytest.approx(1, abs=0.02)


def test_mask_of_a_disc_is_the_pixels_whose_centers_lie_in_it():
    center, radius = np.float32([0.45, 0.55]), 0.3
    window, covered = coverage(lambda x, y: np.hypot(x, y) - np.float32(radius), center, radius, 96)
    mask = np.zeros((96, 96), bool)
    mask[window] = covered >= 0.5
    y, x = (np.mgrid[:96, :96] + 0.5) / 96
    assert np.array_equal(mask, np.hypot(x - 0.45, y - 0.55) <= radius)
    assert covered.sum() == pytest.approx(math.pi * (radius * 96) ** 2, rel=1e-3)


def test_recoloring_changes_the_object_and_nothing_else(monkeypatch):
    before = scenes(20, seed=3)
    gray = np.array([[0.5, 0, 0], [0.7, 0, 0]])
    monkeypatch.setattr(module, "colors_apart", lambda _rng, _others: gray)
    after = scenes(20, seed=3)
    different = changed(before.images, after.images)
    assert torch.equal(before.masks, after.masks)
    assert not (different & ~dilated(before.masks)).any()
    assert (different & before.masks).sum() > 0.999 * before.masks.sum()


def test_color_texture_and_background_do_not_depend_on_the_class(monkeypatch):
    drawn = {}
    for name in ("disc", "star"):
        monkeypatch.setattr(module, "_labels", lambda _seed, _i, _objects, name=name: [CLASSES.index(name)])
        drawn[name] = scenes(10, seed=2)
    disc, star = drawn["disc"], drawn["star"]
    neither = ~dilated(disc.masks | star.masks)
    both = ~dilated(~(disc.masks & star.masks))
    assert both.flatten(1).sum(1).min() > 100
    assert not (changed(disc.images, star.images) & (neither | both)).any()


@pytest.mark.slow
@pytest.mark.parametrize("objects", [2, 3])
def test_further_objects_change_a_scene_only_where_they_are(objects):
    one, several = scenes(40, seed=4), scenes(40, seed=4, objects=objects)
    different = changed(one.images, several.images)
    further = several.object_masks[:, 1:].any(1, keepdim=True)
    assert torch.equal(one.labels, several.labels)
    assert torch.equal(one.masks, several.masks)
    assert not (different & ~dilated(further)).any()
    assert (different & further).sum() > 0.999 * further.sum()


@pytest.mark.slow
def test_main_object_is_unmistakable():
    batch = scenes(200, seed=8, objects=3)
    areas = batch.object_masks.sum((2, 3))
    assert (areas[:, 1:] > 0).all()
    assert (areas[:, 0] > 3 * areas[:, 1:].amax(1)).all()
    assert (batch.object_masks.sum(1) <= 1).all()
    assert all(len(set(labels)) == 3 for labels in batch.object_labels.tolist())


@pytest.mark.slow
def test_object_lies_wholly_in_the_picture():
    masks = scenes(200, seed=9).masks
    border = torch.ones(96, 96, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    assert not (masks & border).any()
    share = masks.float().mean((1, 2, 3))
    assert 0.06 < share.min() < share.max() < 0.19


def test_size_changes_the_resolution_only():
    small, large = scenes(10, seed=6, size=96), scenes(10, seed=6, size=192)
    shrunk = F.avg_pool2d(large.masks.float(), 2) >= 0.5
    assert (shrunk & small.masks).sum() > 0.97 * (shrunk | small.masks).sum()
    assert (F.avg_pool2d(large.images, 8) - F.avg_pool2d(small.images, 4)).abs().mean() < 0.02


def test_marker_is_on_its_class_and_nowhere_else():
    plain, marked = scenes(40, seed=2), scenes(40, seed=2, marker="star")
    carries = marked.marker_masks.flatten(1).any(1)
    assert torch.equal(carries, marked.labels == CLASSES.index("star"))
    assert not (changed(plain.images, marked.images) & ~marked.marker_masks).any()
    rows, columns = marked.marker_masks[carries].nonzero()[:, 2:].unbind(1)
    assert rows.min() > 96 * 0.8
    assert columns.max() < 96 * 0.3
    assert not (marked.marker_masks & marked.object_masks).any()
    assert not plain.marker_masks.any()


def test_marker_takes_names_indices_and_several():
    by_name = scenes(20, size=32, marker=["disc", "arrow"])
    by_index = scenes(20, size=32, marker=(np.int64(0), 9))
    assert torch.equal(by_name.images, by_index.images)
    assert by_name.marker_masks.flatten(1).any(1).sum() == 4
    assert scenes(20, size=32, marker=CLASSES).marker_masks.flatten(1).any(1).all()


@pytest.mark.slow
def test_marker_fraction():
    def carriers(fraction):
        batch = scenes(200, size=32, marker=CLASSES, marker_fraction=fraction)
        return set(batch.marker_masks.flatten(1).any(1).nonzero().flatten().tolist())

    assert carriers(0) == set()
    assert 30 < len(carriers(0.25)) < 70
    assert carriers(0.25) < carriers(0.75) < carriers(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be a whole number from 1, but is 0"),
        ({"n": 2.5}, "n must be a whole number"),
        ({"n": True}, "n must be a whole number"),
        ({"seed": -1}, "seed must be a whole number from 0, but is -1"),
        ({"size": 16}, "size must be a whole number from 32 to 1024, but is 16"),
        ({"objects": 4}, "objects must be a whole number from 1 to 3, but is 4"),
        ({"marker": "strar"}, "no class 'strar': use one of disc, .*; did you mean 'star'"),
        ({"marker": 10}, "no class 10: use one of .* or an index from 0 to 9"),
        ({"marker": ["disc", -1]}, "no class -1"),
        ({"marker": "disc", "marker_fraction": 1.5}, "marker_fraction must be a number from 0 to 1, but is 1.5"),
        ({"marker": "disc", "marker_fraction": math.nan}, "marker_fraction must be a number from 0 to 1"),
        ({"marker": "disc", "marker_fraction": "half"}, "marker_fraction must be .* but is 'half'"),
    ],
)
def test_bad_input_is_refused_with_a_reason(options, message):
    with pytest.raises(ValueError, match=message):
        scenes(**{"n": 1} | options)


def test_examples_in_the_docstrings():
    assert doctest.testmod(module).failed == 0
