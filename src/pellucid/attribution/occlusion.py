"""Occlusion: what the objective loses when a window of the image is covered."""

from __future__ import annotations

import torch
from torch import Tensor

from ..methods.result import Attribution
from ..model.run import Model
from ..objectives import Bound
from .ingredients.baselines import Baseline, baseline_images
from .ingredients.batched_gradients import scores_over
from .ingredients.decorator import attribution

Size = int | tuple[int, int]


@attribution(paper="Zeiler & Fergus 2014, Visualizing and understanding convolutional networks", gradient=False)
def occlusion(
    model: Model,
    images: Tensor,
    objective: Bound,
    *,
    window: Size | None = None,
    stride: Size | None = None,
    fill: Baseline = "mean",
    seed: int = 0,
) -> Attribution:
    """What the objective loses when a window of the image is covered.

    values(pixel) = mean over the windows that cover it of f(image) - f(image with the window filled). Windows
    start at multiples of the stride and go on until the image is covered; the last are cut at the edge. For
    the drop in probability rather than in the logit, explain `probability(...)`.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        objective: what to explain; None is the predicted class.
        window: height and width in pixels; a seventh of the shorter side by default.
        stride: pixels from one window to the next; half the window by default.
        fill: what the window shows: "mean" color, "black", "white", "blur", "noise", or a tensor.
        seed: for "noise".

    Returns:
        An `Attribution`: values N x 1 x H x W, signed, in units of the objective.

    Raises:
        ValueError: for a window larger than the image, a stride that leaves pixels uncovered, or a fill
            that does not fit.

    >>> import pellucid
    >>> model = pellucid.load("shapes")
    >>> pellucid.occlusion(model, pellucid.shapes.scenes(1).images, "star", window=24, stride=24).values.shape
    torch.Size([1, 1, 96, 96])
    """
    images = images.detach()
    side = min(images.shape[2:])
    high, wide = _pair(window if window is not None else max(1, side // 7), "window")
    down, across = _pair(stride if stride is not None else (max(1, high // 2), max(1, wide // 2)), "stride")
    if high > images.shape[2] or wide > images.shape[3]:
        raise ValueError(f"the window is {high} x {wide}, larger than the image, {images.shape[2]} x {images.shape[3]}")
    if down > high or across > wide:
        raise ValueError(f"a stride of {down} x {across} leaves pixels between windows of {high} x {wide} uncovered")
    tops, lefts = _starts(images.shape[2], high, down), _starts(images.shape[3], wide, across)
    cover = baseline_images(model, images, fill, seed)

    def covered(rows: Tensor, numbers: Tensor) -> Tensor:
        batch = images[rows]
        for place, (row, number) in enumerate(zip(rows.tolist(), (numbers - 1).tolist(), strict=True)):
            if number < 0:
                continue  # the image itself
            top, left = tops[number // len(lefts)], lefts[number % len(lefts)]
            here = (slice(None), slice(top, top + high), slice(left, left + wide))
            batch[place][here] = cover[row][here]
        return batch

    scores = scores_over(model, images, objective, 1 + len(tops) * len(lefts), covered, "occlusion")
    drops = scores[:, :1] - scores[:, 1:]
    # Which windows cover which rows and columns; a pixel is covered where both are.
    rows = _cover(tops, high, images.shape[2]).to(images)
    columns = _cover(lefts, wide, images.shape[3]).to(images)
    total = rows.T @ drops.view(-1, len(tops), len(lefts)) @ columns
    count = rows.sum(0)[:, None] * columns.sum(0)
    return Attribution((total / count)[:, None])


def _starts(size: int, window: int, stride: int) -> list[int]:
    return list(range(0, size - window + stride, stride))


def _cover(starts: list[int], window: int, size: int) -> Tensor:
    places = torch.arange(size) - torch.tensor(starts)[:, None]
    return (places >= 0) & (places < window)


def _pair(size: Size, name: str) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or any(not isinstance(v, int) or v < 1 for v in pair):
        raise ValueError(f"{name} is {size!r}, expected pixels: a number above 0, or height and width")
    return pair
