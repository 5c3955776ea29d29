"""Products that the importers share: of matrices, and sums over axes of several values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .graph import BatchDim, Dim, Graph, Held, ImportFailed, Shape, Step, Value


def matmul(g: Graph, a: Held, b: Held) -> Any:
    """A product of matrices; with a known one it is a dense layer."""
    if isinstance(a, Step) and isinstance(b, Tensor) and b.ndim == 2:
        return g.call(F.linear, a, b.T.contiguous(), None)
    return g.call(torch.matmul, a, b)


def matrix_transposed(x: Value) -> Value:
    """A value with its last two axes swapped."""
    return x.transposed([*range(x.ndim - 2), x.ndim - 1, x.ndim - 2])


def count_of(shape: Sequence[Dim]) -> Dim:
    """How many numbers a shape has."""
    each = [n for n in shape if isinstance(n, BatchDim)]
    rest = math.prod(n for n in shape if isinstance(n, int))
    if not each:
        return rest
    if len(each) > 1 or each[0].rest:
        raise ImportFailed("it does not keep the images of a batch apart")
    return BatchDim(each[0].per * rest)


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
