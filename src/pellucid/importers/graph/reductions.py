"""Rules that the importers share for what runs over axes: sums and means, running sums, softmax.

To add a reduction that torch has, write one row: every importer reads its own column of the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from .batch_dims import check_batch_axis
from .elementwise import Function, Row
from .graph import Graph, Value
from .shapes import order_without

# fmt: off
REDUCTIONS = (
    #   torch                ONNX                  TensorFlow  JAX
    Row(torch.sum,           "ReduceSum",          "Sum",      "reduce_sum"),
    Row(torch.mean,          "ReduceMean",         "Mean",     ""),
    Row(torch.amax,          "ReduceMax",          "Max",      "reduce_max"),
    Row(torch.amin,          "ReduceMin",          "Min",      "reduce_min"),
    Row(torch.prod,          "ReduceProd",         "Prod",     "reduce_prod"),
    Row(torch.all,           "",                   "All",      "reduce_and"),
    Row(torch.any,           "",                   "Any",      "reduce_or"),
    Row(torch.logsumexp,     "ReduceLogSumExp",    "",         ""),
)
CUMULATIVE = (
    Row(torch.cumsum,        "CumSum",             "Cumsum",   "cumsum"),
    Row(torch.cumprod,       "",                   "Cumprod",  "cumprod"),
    Row(torch.logcumsumexp,  "",                   "",         "cumlogsumexp"),
)
# fmt: on
ONE_AXIS = (torch.prod, torch.all, torch.any)  # torch takes one axis at a time


def reduced(g: Graph, function: Function, x: Value, axes: Sequence[int], *, keep: bool, name: str) -> Value:
    """A reduction over some axes.

    Args:
        keep: leave them with length 1.
        name: of the operation, for errors.
    """
    axes = sorted({axis % max(1, x.ndim) for axis in axes})
    if not axes or x.ndim == 0:
        return x
    check_batch_axis(x, axes, name)
    places, held = tuple(sorted(x.axis(axis) for axis in axes)), x.held
    options = {"keepdim": True} if keep else {}
    if function in ONE_AXIS:
        for place in reversed(places):
            held = g.call(function, held, place, **options)
    else:
        held = g.call(function, held, places, **options)
    if keep:
        return Value(held, tuple(1 if axis in axes else n for axis, n in enumerate(x.shape)), x.order)
    return Value(held, tuple(n for axis, n in enumerate(x.shape) if axis not in axes), order_without(x, axes))


def place_of_extreme(g: Graph, largest: bool, x: Value, axis: int, *, keep: bool = False, name: str) -> Any:
    """Where along an axis the largest or smallest number is."""
    check_batch_axis(x, [axis], name)
    return g.call(torch.argmax if largest else torch.argmin, g.plain(x), axis, keep)


def cumulative(g: Graph, function: Function, x: Value, axis: int, *, reverse: bool, name: str) -> Value:
    """A running sum or product along an axis, from its end if `reverse`."""
    check_batch_axis(x, [axis], name)
    place, held = x.axis(axis), x.held
    held = g.call(torch.flip, held, (place,)) if reverse else held
    held = g.call(function, held, place)
    return Value(g.call(torch.flip, held, (place,)) if reverse else held, x.shape, x.order)


def softmax(g: Graph, x: Value, axis: int, *, logarithm: bool, name: str) -> Value:
    """Softmax, or its logarithm, along an axis."""
    check_batch_axis(x, [axis % x.ndim], name)
    function = F.log_softmax if logarithm else F.softmax
    return Value(g.call(function, x.held, x.axis(axis % x.ndim)), x.shape, x.order)
