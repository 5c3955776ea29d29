"""Lengths that depend on how many images there are, found by looking at two sizes of a batch."""

from __future__ import annotations

from typing import Any

import torch

from .graph import Graph, Length, Shape, Size, Step, compute, without_numbers

COUNTS = (2, 3)


def length(a: int, b: int) -> Length:
    """The length that is a and b for COUNTS images."""
    if a == b:
        return a
    per = (b - a) // (COUNTS[1] - COUNTS[0])
    return Size(per, a - per * COUNTS[0])


class Measure:
    """The shapes of what the steps of a graph return: each is run without numbers, for COUNTS images."""

    def __init__(self, g: Graph) -> None:
        self.g = g
        self.known: tuple[dict[Step, Any], ...] = tuple(
            {g.images: torch.empty(count, *g.shape, device="meta", dtype=g.dtype)} for count in COUNTS
        )

    def shape(self, step: Step) -> Shape:
        """Of one step, in the order in which torch holds it; steps are looked at once."""
        new = [one for one in self.g.steps[len(self.known[0]) :] if one not in self.known[0]]
        for known in self.known:
            for one in new:
                known[one] = compute(one, known, without_numbers)
        return tuple(length(a, b) for a, b in zip(*(known[step].shape for known in self.known), strict=True))
