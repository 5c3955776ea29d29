"""Rules for the axes of values that the importers share: joining, cutting, padding, flipping."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .batch_dims import check_batch_axis
from .graph import BatchDim, Dim, Graph, ImagesMixed, ImportFailed, Value


def ints(value: Any) -> list[int]:
    """A vector of integers that is known at import."""
    if isinstance(value, Value) and isinstance(value.held, Tensor):
        return [int(n) for n in value.held.reshape(-1).tolist()]
    raise ImportFailed("its shape, axes or indices depend on the images")


def with_rank(g: Graph, value: Value, rank: int) -> Value:
    """A value with axes of length 1 put in front; numbers stay numbers."""
    more = rank - value.ndim
    if more == 0 or value.ndim == 0:
        return value
    shape = ((1,) * more) + value.shape
    return Value.of(g.reshaped(g.plain(value), shape), shape)


def order_without(x: Value, gone: Sequence[int]) -> tuple[int, ...]:
    """The order of what torch holds where some axes of the source are dropped."""
    left = [axis for axis in x.order if axis not in gone]
    return tuple(sorted(left).index(axis) for axis in left)


def concatenated(g: Graph, values: Sequence[Value], axis: int) -> Value:
    """Several values joined along an axis of the source."""
    values = _once_each(g, values)
    held, order = g.aligned(values)
    for place, (part, value) in enumerate(zip(held, values, strict=True)):
        if isinstance(part, Tensor) and part.ndim == 0:  # one number at all places
            held[place] = part.expand(without_batch([value.shape[a] for a in order]))
    whole = sum((value.shape[axis] for value in values[1:]), values[0].shape[axis])
    shape = (*values[0].shape[:axis], whole, *values[0].shape[axis + 1 :])
    return Value(g.call(torch.cat, tuple(held), order.index(axis)), shape, order)


def stacked(g: Graph, values: Sequence[Value], axis: int = 0) -> Any:
    """Several values joined along a new axis."""
    return g.call(torch.stack, tuple(map(g.plain, _once_each(g, values))), axis)


def _once_each(g: Graph, values: Sequence[Value]) -> list[Value]:
    """Values with a row for each image, where any depends on the images."""
    moving = any(not value.known for value in values)
    return [g.expanded(value) if moving else value for value in values]


def flipped(g: Graph, x: Value, axes: Sequence[int], name: str) -> Value:
    """The numbers along some axes in reverse."""
    check_batch_axis(x, axes, name)
    return Value(g.call(torch.flip, x.held, tuple(x.axis(axis) for axis in axes)), x.shape, x.order)


def cut(g: Graph, x: Value, axis: int, part: slice | int) -> Any:
    """A part along an axis of the source, of what torch holds."""
    return g.call(operator.getitem, x.held, (slice(None),) * x.axis(axis) + (part,))


def gathered(g: Graph, x: Value, indices: Tensor, axis: int) -> Value:
    """Parts along an axis at known places, which may count from the end."""
    whole = x.shape[axis]
    if isinstance(whole, BatchDim):
        raise ImagesMixed("it takes a part of the images: each must be computed by itself")
    held = g.call(torch.index_select, g.plain(x), axis, indices.reshape(-1).long() % whole)
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return Value.of(held if indices.ndim == 1 else g.reshaped(held, shape), shape)


def with_padding(g: Graph, x: Value, ends: Sequence[Sequence[int]], number: float = 0.0) -> Value:
    """(before, after) more numbers on each axis of the source; negative ones cut."""
    held = padded(g, x.held, [ends[axis] for axis in x.order], number)
    return Value(held, tuple(n if not any(pair) else n + sum(pair) for n, pair in zip(x.shape, ends, strict=True)),
                 x.order)  # fmt: skip


def padded(g: Graph, held: Any, ends: Iterable[Sequence[int]], value: float = 0.0) -> Any:
    """(before, after) more numbers on each axis of what torch holds; negative ones cut."""
    amounts = [n for pair in reversed(list(ends)) for n in pair]
    while amounts and amounts[-2:] == [0, 0]:
        amounts = amounts[:-2]
    return g.call(F.pad, held, tuple(amounts), "constant", value) if amounts else held


def dilated(x: Tensor, axis: int, inner: int, value: float) -> Tensor:
    """x with so many numbers put between neighbors along an axis."""
    length = x.shape[axis]
    shape = [*x.shape[:axis], (length - 1) * (inner + 1) + 1, *x.shape[axis + 1 :]]
    places = torch.arange(0, shape[axis], inner + 1, device=x.device)
    return x.new_full(shape, value).index_copy(axis, places, x)


def updated(x: Tensor, update: Tensor, places: Sequence[tuple[int, int | None]]) -> Tensor:
    """A copy of x with a block replaced."""
    x = x.clone()
    x[tuple(slice(*place) for place in places)] = update
    return x


def without_batch(shape: Sequence[Dim]) -> list[int]:
    """A shape for a known value that is held once for all images."""
    return [1 if isinstance(n, BatchDim) else n for n in shape]
