"""Textures, colors and antialiased edges.

Pictures are H x W x 3. Places and lengths are fractions of the image's side.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from .outlines import Array, Outline


@lru_cache(maxsize=8)
def _grid(size: int) -> tuple[Array, Array]:
    centers = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    x, y = np.meshgrid(centers, centers)
    return x, y


@lru_cache(maxsize=64)
def _interpolation(size: int, knots: int) -> Array:
    """size x knots matrix that interpolates between knots with a cosine: smooth and without overshoot."""
    place = (np.arange(size) + 0.5) / size * (knots - 1)
    offset = np.abs(place[:, None] - np.arange(knots))
    weights = 0.5 + 0.5 * np.cos(np.pi * np.minimum(offset, 1))
    return np.asarray(weights, np.float32)


def _stretch(field: Array) -> Array:
    low, high = field.min(), field.max()
    stretched: Array = (field - low) / (high - low)
    return stretched


def smooth_noise(rng: np.random.Generator, size: int, octaves: tuple[int, ...]) -> Array:
    """Random smooth H x W field in [0, 1]; each octave has half the amplitude of the one before."""
    field = np.zeros((size, size), np.float32)
    for k, knots in enumerate(octaves):
        weights = _interpolation(size, knots)
        field += weights @ rng.random((knots, knots), np.float32) @ weights.T / np.float32(2**k)
    return _stretch(field)


def _square_wave(phase: Array, pixels_per_period: float) -> Array:
    """Wave of period 1 between -0.5 and 0.5 whose edges are one pixel wide."""
    wave: Array = np.sin(2 * np.pi * phase) * np.float32(pixels_per_period / (2 * np.pi))
    return np.clip(wave, -0.5, 0.5)


TEXTURES = ("gradient", "stripes", "checks", "dots", "noise")


def texture(rng: np.random.Generator, kind: str, size: int) -> Array:
    """H x W field in [0, 1], turned at random; periods are 5 to 13 % of the image."""
    x, y = _grid(size)
    angle, period, shift = rng.uniform(0, 2 * np.pi), rng.uniform(0.06, 0.13), rng.random(2, np.float32)
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    u, v = cos * x + sin * y, cos * y - sin * x
    if kind == "gradient":
        return _stretch(u)
    if kind == "noise":
        return smooth_noise(rng, size, (7, 13, 25))
    u, v, pixels = u / np.float32(period) + shift[0], v / np.float32(period) + shift[1], period * size
    if kind == "stripes":
        return 0.5 + _square_wave(u, pixels)
    if kind == "checks":
        checks: Array = _square_wave(u / 2, 2 * pixels) * _square_wave(v / 2, 2 * pixels)
        return 0.5 + 2 * checks
    outside = np.hypot(u - np.floor(u) - 0.5, v - np.floor(v) - 0.5) - np.float32(0.3)
    dots: Array = np.clip(0.5 - outside * np.float32(pixels), 0, 1)
    return dots


def rgb(oklab: Array) -> Array:
    """sRGB of OKLab colors (... x 3); in OKLab equal distances look equally large."""
    to_lms = np.array([[1, 0.39634, 0.21580], [1, -0.10556, -0.06385], [1, -0.08948, -1.29149]])
    to_rgb = np.array([[4.0767, -3.3077, 0.2310], [-1.2684, 2.6098, -0.3413], [-0.0042, -0.7034, 1.7076]])
    linear = np.clip((oklab @ to_lms.T) ** 3 @ to_rgb.T, 0, 1)
    curved: Array = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(curved, np.float32)


def color_pairs(rng: np.random.Generator, n: int, lightness: tuple[float, float], chroma: tuple[float, float]) -> Array:
    """n x 2 x 3 pairs of related OKLab colors that differ in lightness by 0.12 to 0.3."""
    first = rng.uniform(*lightness, n)
    step = rng.uniform(0.12, 0.3, n) * np.where(first > np.mean(lightness), -1, 1)
    hue = rng.uniform(0, 2 * np.pi, n)[:, None] + rng.normal(0, 0.5, (n, 2)) * [0, 1]
    strength = rng.uniform(*chroma, (n, 2))
    return np.stack([np.stack([first, first + step], 1), strength * np.cos(hue), strength * np.sin(hue)], -1)


def colors_apart(rng: np.random.Generator, others: Array) -> Array:
    """A pair of object colors, both of which stand out from all of `others` (K x 3)."""
    pairs = color_pairs(rng, 24, (0.3, 0.9), (0.08, 0.2))
    distance = np.linalg.norm(pairs[:, :, None] - others, axis=-1).min((1, 2))
    far_enough = distance > 0.26
    chosen: Array = pairs[far_enough.argmax() if far_enough.any() else distance.argmax()]
    return chosen


def coverage(outline: Outline, center: Array, reach: float, size: int) -> tuple[tuple[slice, slice], Array]:
    """How much of each pixel lies inside, in [0, 1]: a window of the image and the values in it.

    `outline` takes places relative to `center` and is not evaluated farther than `reach` from it.
    """
    first = np.clip(np.floor((center - reach) * size).astype(int) - 1, 0, size)
    last = np.clip(np.ceil((center + reach) * size).astype(int) + 1, 0, size)
    window = (slice(first[1], last[1]), slice(first[0], last[0]))
    x, y = _grid(size)
    pixels: Array = outline(x[window] - center[0], y[window] - center[1]) * np.float32(size)
    return window, np.clip(0.5 - pixels, 0, 1)


def mix(low: Array, high: Array, amount: Array) -> Array:
    """Colors between `low` and `high` (3) as `amount` (H x W) goes from 0 to 1."""
    return low + (high - low) * amount[..., None]
