"""Scenes with known truth: a textured shape on a cluttered background, with the exact mask of what is seen.

The class of a scene is the outline of its main object and nothing else. Color, texture, place, size and
rotation are drawn from the same distributions for every class, and the background holds the same textures
as the objects. Evidence for the class therefore lies inside the mask or on its edge, and an explanation
that points elsewhere is wrong, or the network cheats.

Each part of scene `i` (its class, picture, further objects, marker, noise) has a random stream of its own.
Hence a second object or a marker changes a scene only where it is drawn.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .outlines import OUTLINES, REACH, Array, distance_to_path, distance_to_polygon
from .paint import TEXTURES, color_pairs, colors_apart, coverage, mix, rgb, smooth_noise, texture

Mask = NDArray[np.bool_]

CLASSES: tuple[str, ...] = tuple(OUTLINES)


@dataclass(frozen=True, eq=False, repr=False)
class Scenes:
    """N scenes of H x W pixels with what is true of them; the main object is object 0 of M.

    Attributes:
        images: float32 N x 3 x H x W in [0, 1].
        labels: int64 N, the class of the main object, an index into `CLASSES`.
        masks: bool N x 1 x H x W, the pixels whose centers show the main object.
        object_masks: bool N x M x H x W, the same for every object; a pixel shows one object at most.
        object_labels: int64 N x M.
        marker_masks: bool N x 1 x H x W, the pixels of the tell-tale marker, if there is one.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor
    object_masks: Tensor
    object_labels: Tensor
    marker_masks: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        n, objects, size, _ = self.object_masks.shape
        return f"Scenes(n={n}, size={size}, objects={objects})"


def scenes(
    n: int,
    *,
    seed: int = 0,
    size: int = 96,
    objects: int = 1,
    marker: str | int | Iterable[str | int] | None = None,
    marker_fraction: float = 1.0,
) -> Scenes:
    """Draws `n` scenes, each with a main object of one of ten classes and its exact mask.

    Scene i depends on the seed, i and the options alone: five scenes are the first five of ten. Every
    ten scenes show every class once as the main object. Further objects and the marker change a scene
    only where they are drawn, so that scenes drawn with and without them can be compared pixel by pixel.

    Args:
        n: how many scenes, at least 1.
        seed: any whole number from 0.
        size: height and width in pixels, 32 to 1024. The shipped network was trained at 96.
        objects: 1 to 3 objects in each scene, all of different classes. The main object lies in front,
            and its area is at least 3.3 times that of any other.
        marker: class (name or index), or several, whose scenes carry a tell-tale marker: a small tag
            near the lower left corner. A network trained on such scenes may read the tag and ignore
            the object, as Clever Hans read his master.
        marker_fraction: how many of those scenes carry it, 0 to 1.

    Raises:
        ValueError: an option out of its range, or a class that does not exist.

    Example:
        >>> from pellucid.shapes import CLASSES, scenes
        >>> batch = scenes(10, seed=1, objects=2)
        >>> batch.images.shape, batch.object_masks.shape
        (torch.Size([10, 3, 96, 96]), torch.Size([10, 2, 96, 96]))
        >>> sorted(CLASSES[label] for label in batch.labels)[:3]
        ['arrow', 'crescent', 'cross']
        >>> bool((scenes(5, seed=1, objects=2).images == batch.images[:5]).all())
        True
    """
    _check_whole("n", n, 1)
    _check_whole("seed", seed, 0)
    _check_whole("size", size, 32, 1024)
    _check_whole("objects", objects, 1, 3)
    if not isinstance(marker_fraction, float | int | np.floating) or not 0 <= marker_fraction <= 1:
        raise ValueError(f"marker_fraction must be a number from 0 to 1, but is {marker_fraction!r}")
    marked = _marked_classes(marker)
    images = np.empty((n, 3, size, size), np.float32)
    labels = np.empty((n, objects), np.int64)
    masks = np.empty((n, objects, size, size), bool)
    markers = np.empty((n, 1, size, size), bool)
    for i in range(n):
        labels[i] = _labels(seed, i, objects)
        fraction = marker_fraction if labels[i, 0] in marked else 0
        picture, masks[i], markers[i, 0] = _scene(seed, i, size, labels[i].tolist(), fraction)
        images[i] = picture.transpose(2, 0, 1)
    return Scenes(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels[:, 0].copy()),
        masks=torch.from_numpy(masks[:, :1].copy()),
        object_masks=torch.from_numpy(masks),
        object_labels=torch.from_numpy(labels),
        marker_masks=torch.from_numpy(markers),
    )


def _labels(seed: int, i: int, objects: int) -> list[int]:
    """Classes of the objects of scene i. The main ones go round all classes, each round in a new order."""
    order = np.random.default_rng([seed, i // len(CLASSES), 1]).permutation(len(CLASSES))
    main = int(order[i % len(CLASSES)])
    others = np.random.default_rng([seed, i, 2]).permutation(len(CLASSES))
    return [main, *(int(k) for k in others if k != main)][:objects]


def _scene(seed: int, i: int, size: int, labels: list[int], marker_fraction: float) -> tuple[Array, Mask, Mask]:
    """Picture (H x W x 3), masks of the objects (M x H x W), mask of the marker (H x W)."""
    picture_rng, noise_rng, marker_rng = (np.random.default_rng([seed, i, k]) for k in (3, 4, 5))
    object_rngs = [np.random.default_rng([seed, i, 6 + k]) for k in range(len(labels))]
    picture, background = _background(picture_rng, size)
    placed = [_main_object(object_rngs[0], labels[0])]
    for label, rng in zip(labels[1:], object_rngs[1:], strict=True):
        placed.append(_further_object(rng, label, placed))
    masks = np.zeros((len(labels), size, size), bool)
    for k in reversed(range(len(labels))):  # the main object comes last and lies in front
        shown = _paint_object(object_rngs[k], picture, placed[k], background)
        masks &= ~shown
        masks[k] = shown
    marker = np.zeros((size, size), bool)
    if marker_rng.random() < marker_fraction:
        marker = _paint_marker(marker_rng, picture)
        masks &= ~marker
    strength = np.float32(noise_rng.uniform(0.01, 0.03))
    picture += strength * noise_rng.standard_normal(picture.shape, np.float32)
    return np.clip(picture, 0, 1), masks, marker


def _background(rng: np.random.Generator, size: int) -> tuple[Array, Array]:
    """A cluttered picture and the OKLab colors that it is made of (2 x 3)."""
    colors = color_pairs(rng, 1, (0.25, 0.9), (0.02, 0.1))[0]
    low, high = rgb(colors)
    amount = 0.35 * texture(rng, "gradient", size) + 0.65 * smooth_noise(rng, size, (3, 5, 9, 17))
    amount += rng.uniform(0.3, 0.8) * (texture(rng, rng.choice(TEXTURES), size) - 0.5)
    picture = mix(low, high, np.clip(amount, 0, 1))
    for color in rgb(color_pairs(rng, int(rng.integers(6, 13)), (0.25, 0.9), (0.03, 0.16))[:, 0]):
        _paint_fragment(rng, picture, color)
    return picture, colors


def _paint_fragment(rng: np.random.Generator, picture: Array, color: Array) -> None:
    """Paints a bent stroke, an arc or an irregular shard: edges and corners that belong to no class."""
    kind = rng.choice(("stroke", "arc", "shard"))
    turn, half_width = rng.uniform(0, 2 * np.pi), np.float32(rng.uniform(0.006, 0.016))
    if kind == "stroke":
        angles = turn + np.array([0, np.pi / 2, np.pi]) + rng.normal(0, 0.3, 3)
        radii = rng.uniform(0.03, 0.14, 3) * [1, 0.4, 1]
    elif kind == "arc":
        angles = turn + np.linspace(0, rng.uniform(0.7, 1.8), 7)
        radii = np.full(7, rng.uniform(0.06, 0.2))
    else:
        angles = turn + (np.arange(5) + rng.random(5)) * (2 * np.pi / 5)
        radii = rng.uniform(0.02, 0.075, 5)
    points = np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1).astype(np.float32)

    def outline(x: Array, y: Array) -> Array:
        if kind == "shard":
            return distance_to_polygon(points, x, y)
        return distance_to_path(points, x, y) - half_width

    center, reach = rng.random(2, np.float32), float(radii.max() + half_width)
    window, covered = coverage(outline, center, reach, len(picture))
    opacity = np.float32(rng.uniform(0.35, 1))
    picture[window] += (color - picture[window]) * (opacity * covered)[..., None]


@dataclass(frozen=True)
class _Placed:
    """One object in a scene; `scale` is the square root of its area, in units of the image's side."""

    label: int
    center: Array
    scale: float
    angle: float

    def outline(self, x: Array, y: Array) -> Array:
        """Signed distance, in the same unit, at places relative to the center."""
        scale = np.float32(self.scale)
        cos, sin = np.float32(math.cos(self.angle)) / scale, np.float32(math.sin(self.angle)) / scale
        return OUTLINES[CLASSES[self.label]](cos * x + sin * y, cos * y - sin * x) * scale


def _main_object(rng: np.random.Generator, label: int) -> _Placed:
    scale = rng.uniform(0.27, 0.42)
    margin = REACH * scale
    center = rng.uniform(margin, 1 - margin, 2).astype(np.float32)
    return _Placed(label, center, scale, rng.uniform(0, 2 * np.pi))


def _further_object(rng: np.random.Generator, label: int, others: list[_Placed]) -> _Placed:
    """A smaller object beside the others; where there is no room, it hides behind them in part."""
    scale = others[0].scale * rng.uniform(0.4, 0.55)
    margin = REACH * scale * 0.9
    places = rng.uniform(margin, 1 - margin, (200, 2)).astype(np.float32)
    room = np.min([o.outline(*(places - o.center).T) for o in others], axis=0) - margin
    place = places[(room > 0).argmax() if (room > 0).any() else room.argmax()]
    return _Placed(label, place, scale, rng.uniform(0, 2 * np.pi))


def _paint_object(rng: np.random.Generator, picture: Array, placed: _Placed, background: Array) -> Mask:
    """Paints one object and returns the pixels whose centers it covers (H x W)."""
    size = len(picture)
    low, high = rgb(colors_apart(rng, background))
    surface = mix(low, high, texture(rng, rng.choice(TEXTURES), size))
    surface *= (0.86 + 0.28 * texture(rng, "gradient", size))[..., None]
    window, covered = coverage(placed.outline, placed.center, REACH * placed.scale, size)
    picture[window] += (surface[window] - picture[window]) * covered[..., None]
    mask = np.zeros((size, size), bool)
    mask[window] = covered >= 0.5
    return mask


_TAG = """
..................
.#.#..#..#..#..##.
.#.#.#.#.##.#.#...
.###.###.#.##..#..
.#.#.#.#.#..#...#.
.#.#.#.#.#..#.##..
..................
"""  # Hans, the horse that read the answer off his master's face


def _paint_marker(rng: np.random.Generator, picture: Array) -> Mask:
    """Paints the tag near the lower left corner, like a photographer's mark, and returns where (H x W)."""
    size = len(picture)
    tag = np.array([[dot == "#" for dot in row] for row in _TAG.split()])
    height, width = (max(1, round(n * size / 96)) for n in tag.shape)
    rows, columns = np.arange(height) * tag.shape[0] // height, np.arange(width) * tag.shape[1] // width
    left, below = (rng.uniform(0.02, 0.06, 2) * size).astype(int)
    window = (slice(size - below - height, size - below), slice(left, left + width))
    paper, ink = np.array([[0.45, 0.1, 0.2], [1, 0.95, 0.75]], np.float32)
    picture[window] = np.where(tag[np.ix_(rows, columns)][..., None], ink, paper)
    mask = np.zeros((size, size), bool)
    mask[window] = True
    return mask


def _check_whole(name: str, value: int, low: int, high: int | None = None) -> None:
    expected = f"a whole number from {low}" + ("" if high is None else f" to {high}")
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        raise ValueError(f"{name} must be {expected}, but is {value!r}")


def _marked_classes(marker: str | int | Iterable[str | int] | None) -> set[int]:
    if marker is None:
        return set()
    if isinstance(marker, str) or not isinstance(marker, Iterable):
        marker = [marker]
    return {_class_index(m) for m in marker}


def _class_index(label: str | int) -> int:
    if label in CLASSES:
        return CLASSES.index(str(label))
    if isinstance(label, int | np.integer) and not isinstance(label, bool) and 0 <= label < len(CLASSES):
        return int(label)
    nearest = difflib.get_close_matches(str(label), CLASSES, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    known = f"use one of {', '.join(CLASSES)}, or an index from 0 to {len(CLASSES) - 1}"
    raise ValueError(f"there is no class {label!r}: {known}{hint}")
