"""What rules of several frameworks are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .graph import Graph, ImagesMixed, Shape, Size, Value


def mixes_images(x: Value, axes: Sequence[int], name: str) -> None:
    """Refuse what makes one image's result depend on the others."""
    if any(isinstance(x.shape[axis], Size) for axis in axes):
        raise ImagesMixed(
            f"{name} runs over the images of the batch, as a batch norm in training does: each image must be computed "
            "by itself. Import the network as it predicts (train=False, use_running_average=True, model.eval())"
        )


def padded(g: Graph, held: Any, ends: Sequence[Any], value: float = 0.0, **told: Any) -> Any:
    """With (before, after) more numbers on each axis; negative ones cut."""
    amounts = [n for pair in reversed(ends) for n in pair]
    while amounts and amounts[-2:] == [0, 0]:
        amounts = amounts[:-2]
    return g.call(F.pad, held, tuple(amounts), "constant", value, **told) if amounts else held


def spread(x: Tensor, axis: int, inner: int, value: float) -> Tensor:
    """x with so many numbers put between its own."""
    length = x.shape[axis]
    shape = [*x.shape[:axis], (length - 1) * (inner + 1) + 1, *x.shape[axis + 1 :]]
    places = torch.arange(0, shape[axis], inner + 1, device=x.device)
    return x.new_full(shape, value).index_copy(axis, places, x)


def updated(x: Tensor, update: Tensor, places: Sequence[tuple[int, int | None]]) -> Tensor:
    """A copy of x with a block replaced."""
    x = x.clone()
    x[tuple(slice(*place) for place in places)] = update
    return x


def raised(g: Graph, value: Value, rank: int) -> Value:
    """A value with axes of length 1 put in front; numbers stay numbers."""
    more = rank - value.ndim
    if more == 0 or value.ndim == 0:
        return value
    shape = ((1,) * more) + value.shape
    return Value(g.reshaped(g.plain(value), shape), shape, tuple(range(rank)))


def contracted(g: Graph, equation: str, values: Sequence[Value], shape: Shape) -> Any:
    """An einsum; with one value and known weights it is a dense layer, and products of matrices are `matmul`.

    Args:
        equation: such as "nhwc,ck->nhwk".
        shape: of what comes out.
    """
    inputs, output = equation.split("->")
    if len(values) == 2 and values[1].known and not values[0].known and "." not in equation:
        x, w = inputs.split(",")
        summed = [letter for letter in x if letter in w and letter not in output]
        kept = "".join(letter for letter in x if letter not in summed)
        made = "".join(letter for letter in w if letter not in summed)
        if x.endswith("".join(summed)) and output == kept + made and not set(kept) & set(made):
            weight = values[1].held
            assert isinstance(weight, Tensor)
            weight = weight.permute([w.index(letter) for letter in (*made, *summed)])
            width = math.prod(weight.shape[len(made) :])
            held = g.plain(values[0])
            lengths = values[0].shape[: len(kept)]
            held = g.reshaped(held, (*lengths, width)) if len(summed) != 1 else held
            out = g.call(F.linear, held, weight.reshape(-1, width).contiguous(), None)
            return g.reshaped(out, shape) if len(made) != 1 else out
    if len(values) == 2 and not values[0].known and not values[1].known and "." not in equation:
        x, y = inputs.split(",")
        found = _product(g, x, y, output, *values)
        if found is not None:
            return found
    return g.call(torch.einsum, equation, *(g.plain(value) for value in values))


def _product(g: Graph, x: str, y: str, output: str, a: Value, b: Value) -> Any:
    """An einsum of two values as a product of matrices, as in attention; None if it is none."""
    each = [letter for letter in x if letter in y and letter in output]
    summed = [letter for letter in x if letter in y and letter not in output]
    rows, columns = ([letter for letter in mine if letter not in other] for mine, other in ((x, y), (y, x)))
    if any(len(letters) != 1 for letters in (summed, rows, columns)) or len({*output}) != len(output):
        return None
    if sorted(output) != sorted([*each, *rows, *columns]) or len({*x}) != len(x) or len({*y}) != len(y):
        return None
    if output.index(columns[0]) < output.index(rows[0]):
        return _product(g, y, x, output, b, a)
    left = g.ordered(a, [x.index(letter) for letter in (*each, *rows, *summed)])
    right = g.ordered(b, [y.index(letter) for letter in (*each, *summed, *columns)])
    order = [output.index(letter) for letter in (*each, *rows, *columns)]
    length = dict(zip(x + y, (*a.shape, *b.shape), strict=True))
    return g.plain(Value(g.call(torch.matmul, left, right), tuple(map(length.__getitem__, output)), tuple(order)))
