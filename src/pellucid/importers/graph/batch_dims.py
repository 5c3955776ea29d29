"""Dimensions that depend on the batch size, found by comparing the shapes of two batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .graph import BatchDim, Dim, Graph, ImagesMixed, Shape, Step, Value, compute, without_numbers

BATCH_SIZES = (2, 3)


def dim(a: int, b: int, counts: tuple[int, int] = BATCH_SIZES) -> Dim:
    """The dimension that is a and b for batches of two sizes."""
    if a == b:
        return a
    per = (b - a) // (counts[1] - counts[0])
    return BatchDim(per, a - per * counts[0])


def shape_of_both(a: Sequence[int], b: Sequence[int], counts: tuple[int, int] = BATCH_SIZES) -> Shape:
    """The shape that is a and b for batches of two sizes."""
    return tuple(dim(int(x), int(y), counts) for x, y in zip(a, b, strict=True))


def check_batch_axis(x: Value, axes: Sequence[int], name: str) -> None:
    """Refuse what makes one image's result depend on the others."""
    if any(isinstance(x.shape[axis], BatchDim) for axis in axes):
        raise ImagesMixed(
            f"{name} runs over the images of the batch, as a batch norm in training does: each image must be computed "
            "by itself. Import the network as it predicts (train=False, use_running_average=True, model.eval())"
        )


class ShapeInference:
    """The shapes of what the steps of a graph return: each is run on the meta device, for BATCH_SIZES images."""

    def __init__(self, g: Graph) -> None:
        self.g = g
        self.known: tuple[dict[Step, Any], ...] = tuple(
            {g.images: torch.empty(count, *g.shape, device="meta", dtype=g.dtype)} for count in BATCH_SIZES
        )

    def shape(self, step: Step) -> Shape:
        """Of one step, in the order in which torch holds it; steps are looked at once."""
        new = [one for one in self.g.steps[len(self.known[0]) :] if one not in self.known[0]]
        for known in self.known:
            for one in new:
                known[one] = compute(one, known, without_numbers)
        a, b = (known[step].shape for known in self.known)
        return shape_of_both(a, b)

    def value(self, step: Step, order: tuple[int, ...] | None = None) -> Value:
        """A step as a value of the source framework, with its true shape; by default its axes are in torch's order."""
        dims = self.shape(step)
        order = tuple(range(len(dims))) if order is None else order
        return Value(step, tuple(dims[order.index(axis)] for axis in range(len(dims))), order)
