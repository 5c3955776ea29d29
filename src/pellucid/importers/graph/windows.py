"""Convolutions and pools that the importers share, on what torch holds: N x C x sides.

Frameworks pad each end of a side by its own amount, torch both by the same: where they differ it is done by hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .graph import Graph, Held, ImportFailed
from .shapes import padded

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
AVERAGE_POOLS = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
MAX_POOLS = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
Sides = Sequence[int]
Pads = Sequence[tuple[int, int]]  # of each side: before it and after it


def same_pads(lengths: Sequence[Any], kernel: Sides, stride: Sides, dilation: Sides) -> list[tuple[int, int]]:
    """The pads for which a window fits length / stride times into a side; an odd number has one more after it."""
    pads = []
    for length, k, s, d in zip(lengths, kernel, stride, dilation, strict=True):
        assert isinstance(length, int)
        total = max((math.ceil(length / s) - 1) * s + (k - 1) * d + 1 - length, 0)
        pads.append((total // 2, total - total // 2))
    return pads


def _even(pads: Pads, kernel: Sides | None = None) -> bool:
    """Whether torch pads so itself: at both ends the same; a pool by half of its window at the most."""
    most = [math.inf] * len(pads) if kernel is None else [k // 2 for k in kernel]
    return all(0 <= before == after <= limit for (before, after), limit in zip(pads, most, strict=True))


def _split(g: Graph, held: Held, pads: Pads, kernel: Sides | None, value: float) -> tuple[Held, tuple[int, ...]]:
    """What is padded by hand where that is needed, and what is left to torch."""
    if _even(pads, kernel):
        return held, tuple(before for before, _ in pads)
    return padded(g, held, [(0, 0), (0, 0), *pads], value), (0,) * len(pads)


def convolution(
    g: Graph, held: Held, weight: Tensor, bias: Tensor | None, stride: Sides, pads: Pads, dilation: Sides, groups: int
) -> Any:
    """A convolution over one to three sides."""
    held, even = _split(g, held, pads, None, 0.0)
    function = CONVOLUTIONS[len(pads) - 1]
    return g.call(function, held, weight.contiguous(), bias, tuple(stride), even, tuple(dilation), groups)


def max_pool(
    g: Graph, held: Held, kernel: Sides, stride: Sides, pads: Pads, dilation: Sides, ceil: bool = False
) -> Any:
    """A max pool. It is not padded by -inf, which times 0 is NaN where relevance is computed."""
    held, even = _split(g, held, pads, kernel, torch.finfo(g.dtype).min)
    return g.call(MAX_POOLS[len(pads) - 1], held, tuple(kernel), tuple(stride), even, tuple(dilation), ceil)


def sum_pool(g: Graph, held: Held, kernel: Sides, stride: Sides, pads: Pads, ceil: bool = False) -> Any:
    """The sums of windows of feature maps: average pools with the divisor 1."""
    held, even = _split(g, held, pads, kernel, 0.0)
    return g.call(F.avg_pool2d, held, tuple(kernel), tuple(stride), even, ceil, True, 1)


def average_pool(
    g: Graph, held: Held, kernel: Sides, stride: Sides, pads: Pads, sides: Sequence[Any], *,
    ceil: bool = False, padding_counts: bool = False,
) -> Any:  # fmt: skip
    """An average pool.

    Args:
        sides: lengths of what it runs over.
        ceil: windows may reach over the end.
        padding_counts: divide by the whole window also where it lies over what is padded.
    """
    kernel, stride = tuple(kernel), tuple(stride)
    if _even(pads, kernel) or padding_counts:
        held, even = _split(g, held, pads, kernel, 0.0)
        return g.call(AVERAGE_POOLS[len(pads) - 1], held, kernel, stride, even, ceil, padding_counts)
    if len(pads) != 2:
        raise ImportFailed("an average pool padded on one side has a rule only for feature maps")
    ones = F.pad(torch.ones(1, 1, *sides, dtype=g.dtype), (*pads[1], *pads[0]))
    counts = F.avg_pool2d(ones, kernel, stride, 0, ceil, True, 1)
    return g.call(torch.div, sum_pool(g, held, kernel, stride, pads, ceil), counts)
