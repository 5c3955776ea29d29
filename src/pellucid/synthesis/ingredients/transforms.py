"""What is done to an image every n steps of its ascent: views that the network gets, and changes that stay.

Transformations move the image before the network sees it, another way at each step, so that only what survives the move
is worth drawing: `jitter`, `rotate`, `scale`, `pad`. Changes stay: `blur`, `clip_small_pixels`, `standardize`.
`clip_small_gradients` changes the gradient on its way. The same move is made of all images of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from ...display.gaussian import gaussian_blur

Move = Callable[[torch.Generator], Tensor]
Change = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Transform:
    """Something done every n steps; made by the functions of this file.

    text: what it prints as. when: "view" (what the network sees), "before" or "after" the step (changes that stay),
    "gradient". every: n. change: from images or a gradient, and the mean color C x 1 x 1, to others. move: for
    views that move pixels, a draw of the 3 x 3 matrix from places after to places before, from the center, x first.
    """

    text: str
    when: str = field(repr=False)
    every: int = field(repr=False)
    change: Change | None = field(repr=False, default=None)
    move: Move | None = field(repr=False, default=None)

    def due(self, step: int) -> bool:
        """Whether it is its turn at this step, counted from 0."""
        return (step + 1) % self.every == 0 if self.when == "after" else step % self.every == 0

    def __repr__(self) -> str:
        return self.text


def jitter(pixels: int, *, every: int = 1) -> Transform:
    """Shift the view by up to so many whole pixels each way; alone, what leaves on one side enters on the other.

    >>> jitter(8)
    jitter(8)
    """
    _check("jitter", pixels=pixels, every=every)

    def move(generator: torch.Generator) -> Tensor:
        x, y = torch.randint(-pixels, pixels + 1, (2,), generator=generator).tolist()
        return torch.tensor([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]], dtype=torch.float64)

    return Transform(_text("jitter", pixels, every), "view", every, move=move)


def rotate(degrees: float, *, every: int = 1) -> Transform:
    """Turn the view by up to so many degrees either way; beyond the border the image is mirrored.

    >>> rotate(5)
    rotate(5)
    """
    _check("rotate", degrees=degrees, every=every)

    def move(generator: torch.Generator) -> Tensor:
        angle = math.radians(degrees) * (2 * torch.rand((), generator=generator).item() - 1)
        c, s = math.cos(angle), math.sin(angle)
        return torch.tensor([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)

    return Transform(_text("rotate", degrees, every), "view", every, move=move)


def scale(amount: float | tuple[float, float], *, every: int = 1) -> Transform:
    """Enlarge the view by a factor from 1 - amount to 1 + amount, or between two factors.

    >>> scale(0.1), scale((1.0, 1.2))
    (scale(0.1), scale((1.0, 1.2)))
    """
    low, high = amount if isinstance(amount, tuple) else (1 - amount, 1 + amount)
    if not 0 < low <= high:
        raise ValueError(f"scale: the factors go from {low:g} to {high:g}, expected both above 0 and in order")
    _check("scale", every=every)

    def move(generator: torch.Generator) -> Tensor:
        factor = low + (high - low) * torch.rand((), generator=generator).item()
        return torch.diag(torch.tensor([1 / factor, 1 / factor, 1.0], dtype=torch.float64))

    return Transform(_text("scale", amount, every), "view", every, move=move)


def pad(pixels: int, *, every: int = 1) -> Transform:
    """Show the image with a margin of the mean color: the network sees, and pays for, a larger picture.

    >>> pad(12)
    pad(12)
    """
    _check("pad", pixels=pixels, every=every)

    def change(images: Tensor, center: Tensor) -> Tensor:
        return F.pad(images - center, (pixels,) * 4) + center

    return Transform(_text("pad", pixels, every), "view", every, change)


def blur(sigma: float, *, every: int = 4) -> Transform:
    """A Gaussian of that many pixels over the image itself (Yosinski et al. 2015).

    >>> blur(0.5, every=8)
    blur(0.5, every=8)
    """
    _check("blur", sigma=sigma, every=every)
    return Transform(_text("blur", sigma, every, always=True), "after", every, lambda x, _: gaussian_blur(x, sigma))


def clip_small_pixels(percentile: float, *, every: int = 4) -> Transform:
    """Give the mean color to the pixels nearest to it, that percentage of each image (Yosinski et al. 2015).

    >>> clip_small_pixels(20)
    clip_small_pixels(20, every=4)
    """
    _check("clip_small_pixels", every=every, percentile=percentile)

    def change(images: Tensor, center: Tensor) -> Tensor:
        size = (images - center).square().sum(1, keepdim=True)
        return torch.where(size <= _percentile(size, percentile), center, images)

    return Transform(_text("clip_small_pixels", percentile, every, always=True), "after", every, change)


def clip_small_gradients(percentile: float, *, every: int = 1) -> Transform:
    """Set the smallest numbers of the gradient to 0, that percentage of each image (Yosinski et al. 2015).

    >>> clip_small_gradients(50)
    clip_small_gradients(50)
    """
    _check("clip_small_gradients", every=every, percentile=percentile)

    def change(slopes: Tensor, _center: Tensor) -> Tensor:
        size = slopes.abs()
        return torch.where(size <= _percentile(size, percentile), 0, slopes)

    return Transform(_text("clip_small_gradients", percentile, every), "gradient", every, change)


def standardize(mean: float = 0.0, std: float = 1.0, *, every: int = 1) -> Transform:
    """Bring each image to a mean and a standard deviation over all its pixels, before the gradient is taken.

    An image of one color becomes the mean.

    >>> standardize()
    standardize(0, 1)
    """
    _check("standardize", std=std, every=every)

    def change(images: Tensor, _center: Tensor) -> Tensor:
        average = images.mean((1, 2, 3), keepdim=True)
        spread = images.std((1, 2, 3), correction=0, keepdim=True)
        tiny = spread <= 1e-6 * (1 + average.abs())
        return torch.where(tiny, mean, mean + (images - average) * (std / torch.where(tiny, 1, spread)))

    return Transform(f"standardize({mean:g}, {std:g})", "before", every, change)


def robust(size: Sequence[int]) -> tuple[Transform, ...]:
    """The views that `maximize` takes by default for an image of this height and width.

    >>> robust((224, 224))
    (scale(0.12, every=2), rotate(12, every=2), jitter(18))
    """
    # A turn costs as much as some layers do, a shift nothing: every other step is enough.
    return scale(0.12, every=2), rotate(12, every=2), jitter(max(1, min(size) // 12))


def view(images: Tensor, edits: Sequence[Transform], step: int, generator: torch.Generator, center: Tensor) -> Tensor:
    """What the network sees of the images at a step; moves that follow one another are made in one."""
    pending: Tensor | None = None
    for edit in edits:
        if edit.when != "view" or not edit.due(step):
            continue
        if edit.move is not None:
            matrix = edit.move(generator)
            pending = matrix if pending is None else pending @ matrix
        elif edit.change is not None:
            images = edit.change(images if pending is None else moved(images, pending), center)
            pending = None
    return images if pending is None else moved(images, pending)


def moved(images: Tensor, matrix: Tensor) -> Tensor:
    """Images whose pixel at p is that of the given ones at matrix p, both from the center; bilinear, mirrored.

    A shift by whole pixels is round the edges, and exact.

    >>> moved(torch.arange(3.0).view(1, 1, 1, 3), torch.tensor([[1.0, 0, 1], [0, 1, 0], [0, 0, 1]]))
    tensor([[[[1., 2., 0.]]]])
    """
    height, width = images.shape[2:]
    shift = matrix[:2, 2]
    if torch.equal(matrix[:2, :2], torch.eye(2, dtype=matrix.dtype)) and torch.equal(shift, shift.round()):
        right, down = (int(v) for v in shift.tolist())
        return images.roll((-down, -right), (2, 3)) if right or down else images
    # As F.affine_grid, which multiplies matrices for it and takes five times as long: a sum of a row and a column.
    half = torch.tensor([width / 2, height / 2, 1.0], dtype=matrix.dtype)
    (a, b, c), (d, e, f) = (matrix * half / half[:, None])[:2].tolist()
    x, y = (torch.linspace(1 / n - 1, 1 - 1 / n, n, dtype=torch.float64).to(images) for n in (width, height))
    grid = torch.stack([a * x + (b * y + c)[:, None], d * x + (e * y + f)[:, None]], -1).expand(len(images), -1, -1, -1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _percentile(values: Tensor, percentile: float) -> Tensor:
    """Of each image, the number below which that percentage of its numbers lie; below all of them for 0."""
    flat = values.flatten(1)
    count = round(percentile / 100 * flat.shape[1])
    edge = flat.kthvalue(count, 1).values if count else flat.new_full((len(flat),), -1.0)
    return edge[:, None, None, None]


def _text(name: str, value: object, every: int, *, always: bool = False) -> str:
    shown = f"{value:g}" if isinstance(value, (int, float)) else str(value)
    return f"{name}({shown}, every={every})" if always or every != 1 else f"{name}({shown})"


def _check(name: str, *, every: int, percentile: float | None = None, **above: float) -> None:
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ValueError(f"{name}: every is {every!r}, expected a number of steps, at least 1")
    if percentile is not None and not 0 <= percentile <= 100:
        raise ValueError(f"{name}: percentile is {percentile!r}, expected 0 to 100")
    for option, value in above.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise ValueError(f"{name}: {option} is {value!r}, expected a number above 0")
        if option == "pixels" and not isinstance(value, int):
            raise ValueError(f"{name}: pixels is {value!r}, expected a whole number")
