"""Gradients and values of many images, and of many variants of each, in passes that fit the memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...model.batches import batched
from ...model.run import Model, Rules, device_of, gradient, run
from ...objectives import Bound


def per_image(
    model: Model, images: Tensor, objective: Bound, rules: Rules | None = None, strict: bool = True
) -> Tensor:
    """The gradient of the objective with respect to each image, or what rules make of it; of their shape."""
    values = torch.empty_like(images)

    def step(part: slice) -> None:
        rows = torch.arange(part.start, part.stop)
        values[part] = gradient(model, images[part], objective, rows=rows, rules=rules, strict=strict)[0]

    batched(step, len(images), like=images, label="gradient", device=device_of(model))
    return values


def gradients_over(
    model: Model,
    images: Tensor,
    objective: Bound,
    variants: int,
    make: Callable[[Tensor, Tensor], Tensor],
    fold: Callable[[Tensor, Tensor, Tensor], Tensor],
    label: str,
    subset: Tensor | None = None,
) -> Tensor:
    """The sum over variants of a function of their gradients, for each image.

    Args:
        variants: how many variants of each image there are.
        make: from the numbers of M images and of M variants, the variants M x C x H x W.
        fold: from M gradients and the same numbers, what is summed: M x any number of channels.
        label: what the progress bar says.
        subset: the numbers of the images to do; all by default.

    Returns:
        One sum for each image of the subset.
    """
    chosen = torch.arange(len(images)) if subset is None else subset
    total = torch.empty(0)

    def step(part: slice) -> None:
        nonlocal total
        index = torch.arange(part.start, part.stop)
        places, numbers = index // variants, index % variants
        rows = chosen[places]
        slopes = fold(gradient(model, make(rows, numbers), objective, rows=rows)[0], rows, numbers)
        if not len(total):
            wide = torch.promote_types(slopes.dtype, torch.float32)
            total = slopes.new_zeros(len(chosen), *slopes.shape[1:], dtype=wide)
        found, counts = places.unique_consecutive(return_counts=True)
        # One image after the other: index_add_ sums in random order on a GPU, a matrix product in TF32.
        for place, mine in zip(found.tolist(), slopes.split(counts.tolist()), strict=True):
            total[place] += mine.sum(0, dtype=total.dtype)

    batched(step, len(chosen) * variants, like=images, label=label, device=device_of(model))
    return total


def of_rows(values: Tensor, rows: Tensor) -> Tensor:
    """`values[rows]` for rows in ascending order; one row without a copy where all are the same."""
    return values[rows[:1]] if rows[0] == rows[-1] else values[rows]


def reduce_channels(values: Tensor, sign: str, channels: str) -> Tensor:
    """Gradients N x C x H x W as maps.

    Args:
        sign: "absolute" takes the magnitude, "keep" keeps the sign, "positive" keeps the positive part.
        channels: "max" keeps the channel of the largest magnitude, "mean" the mean over channels, "all" all.

    Raises:
        ValueError: for any other word.
    """
    if sign not in ("absolute", "keep", "positive"):
        raise ValueError(f"sign is {sign!r}, expected 'absolute', 'keep' or 'positive'")
    if channels not in ("max", "mean", "all"):
        raise ValueError(f"channels is {channels!r}, expected 'max', 'mean' or 'all'")
    if sign == "absolute":
        values = values.abs()
    elif sign == "positive":
        values = values.clamp(min=0)
    if channels == "mean":
        return values.mean(1, keepdim=True)
    if channels == "all":
        return values
    high, low = values.amax(1, keepdim=True), values.amin(1, keepdim=True)  # an argmax over channels is slow
    return torch.where(high >= -low, high, low)


def scores_over(
    model: Model,
    images: Tensor,
    objective: Bound,
    variants: int,
    make: Callable[[Tensor, Tensor], Tensor],
    label: str,
) -> Tensor:
    """The objective of every variant of every image, N x variants, without a gradient; `make` as above."""
    parts: list[Tensor] = []

    def step(part: slice) -> None:
        index = torch.arange(part.start, part.stop)
        rows, numbers = index // variants, index % variants
        varied = make(rows, numbers)
        trace = run(model, varied, read=objective.reads, to_output=objective.needs_output, rows=rows)
        parts.append(objective(trace).to(images))

    with torch.no_grad():
        batched(step, len(images) * variants, like=images, label=label, device=device_of(model))
    return torch.cat(parts).view(len(images), variants)


def values_of(model: Model, images: Tensor, objective: Bound) -> Tensor:
    """The objective of each image, N numbers, without a gradient."""
    return scores_over(model, images, objective, 1, lambda rows, _: images[rows], "objective")[:, 0]
