"""The outlines of the classes, as signed distances.

Each has area 1 and its centroid at 0, so that "larger" means the same thing for all classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Outline = Callable[[Array, Array], Array]  # signed distance of (x, y) to the edge, negative inside


def distance_to_path(points: Array, x: Array, y: Array) -> Array:
    """Distance of (x, y) to the open path through `points` (V x 2)."""
    start, step = points[:-1], np.diff(points, axis=0)
    dx, dy = x[..., None] - start[:, 0], y[..., None] - start[:, 1]
    t = np.clip((dx * step[:, 0] + dy * step[:, 1]) / (step**2).sum(1), 0, 1)
    distance: Array = np.sqrt(((dx - t * step[:, 0]) ** 2 + (dy - t * step[:, 1]) ** 2).min(-1))
    return distance


def distance_to_polygon(points: Array, x: Array, y: Array) -> Array:
    """Signed distance of (x, y) to the closed polygon with the corners `points` (V x 2)."""
    closed = np.concatenate([points, points[:1]])
    (x0, y0), (x1, y1) = closed[:-1].T, closed[1:].T
    px, py = x[..., None], y[..., None]
    crosses = ((y0 > py) != (y1 > py)) & (px < x0 + (py - y0) * (x1 - x0) / np.where(y1 == y0, 1, y1 - y0))
    inside = crosses.sum(-1) % 2 == 1
    return distance_to_path(closed, x, y) * np.where(inside, np.float32(-1), np.float32(1))


def _polygon(*corners: tuple[float, float]) -> Outline:
    points = np.array(corners)
    a, b = points, np.roll(points, -1, axis=0)
    cross = a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]
    area = cross.sum() / 2
    centroid = ((a + b) * cross[:, None]).sum(0) / (6 * area)
    unit = ((points - centroid) / math.sqrt(abs(area))).astype(np.float32)
    return lambda x, y: distance_to_polygon(unit, x, y)


def _around(n: int, *radii: float) -> list[tuple[float, float]]:
    """`n` corners around 0, their radii taken from `radii` in turn."""
    polar = [(radii[k % len(radii)], 2 * math.pi * k / n) for k in range(n)]
    return [(r * math.sin(t), -r * math.cos(t)) for r, t in polar]


def _disc(x: Array, y: Array) -> Array:
    return np.hypot(x, y) - np.float32(math.sqrt(1 / math.pi))


def _ring(x: Array, y: Array, hole: float = 0.55) -> Array:
    outer = math.sqrt(1 / (math.pi * (1 - hole**2)))
    from_middle: Array = np.abs(np.hypot(x, y) - outer * (1 + hole) / 2)
    return from_middle - np.float32(outer * (1 - hole) / 2)


def _crescent(x: Array, y: Array) -> Array:
    # The unit disc without the disc of radius 0.8 around (0.55, 0): area 1.609, centroid at x = -0.3722.
    unit, hole, shift = math.sqrt(1.609), 0.8, 0.55
    x, y = x * unit - 0.3722, abs(y) * unit
    tip_x = (1 - hole**2 + shift**2) / (2 * shift)
    tip_y = math.sqrt(1 - tip_x**2)
    to_tip = np.hypot(x - tip_x, y - tip_y)
    to_arcs = np.maximum(np.hypot(x, y) - 1, hole - np.hypot(x - shift, y))
    beyond_tip = x * tip_y - y * tip_x > shift * np.maximum(tip_y - y, 0)
    distance: Array = np.where(beyond_tip, to_tip, to_arcs)
    return distance / np.float32(unit)


def _heart(x: Array, y: Array) -> Array:
    # A square on its corner with a half disc on each upper side. The centroid is 0.6566 above the tip.
    unit = math.sqrt(0.5 + math.pi / 8)
    x, y = abs(x) * unit, 0.6566 - y * unit
    lobe = np.hypot(x - 0.25, y - 0.75) - math.sqrt(2) / 4
    along = np.maximum(x + y, 0) / 2
    side = np.minimum(np.hypot(x, y - 1), np.hypot(x - along, y - along)) * np.sign(x - y)
    distance: Array = np.where(x + y > 1, lobe, side).astype(np.float32)
    return distance / np.float32(unit)


_ARM = 0.34
_CROSS = [(1, -_ARM), (1, _ARM), (_ARM, _ARM), (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM)]
_ARROW = [(0, -1), (0.8, -0.15), (0.3, -0.15), (0.3, 1), (-0.3, 1), (-0.3, -0.15), (-0.8, -0.15)]

OUTLINES: dict[str, Outline] = {
    "disc": _disc,
    "ring": _ring,
    "square": _polygon(*_around(4, 1)),
    "triangle": _polygon(*_around(3, 1)),
    "star": _polygon(*_around(10, 1, 0.42)),
    "cross": _polygon(*_CROSS, *((-x, -y) for x, y in _CROSS)),
    "heart": _heart,
    "crescent": _crescent,
    "hexagon": _polygon(*_around(6, 1)),
    "arrow": _polygon(*_ARROW),
}
REACH = 1.0  # no outline is farther than this from its centroid
