"""TensorFlow's operations in torch, one small rule each. To add one, write it here (linear maps and windows:
tensorflow_linear.py).

A rule takes the graph, the operation and a value for each input, and gives what torch holds, or a `Value` where the
axes are in another order than in TensorFlow. A length that is not known is N, and -1 where TensorFlow computes with it.
"""

# ruff: noqa: ARG001 - all rules have one signature

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..graph.graph import Graph, ImportFailed, Shape, Size, Value
from ..graph.rule_parts import mixes_images, padded, raised

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}


@dataclass(frozen=True, eq=False)
class Rows(Value):
    """All axes but the last of another value as one, which TensorFlow multiplies a matrix with, to part them again."""

    of: Value


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Make a function the rule of some operations."""

    def put(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return put


def shape_of(tensor: Any, needed: bool = False) -> Shape:
    """The lengths of a TensorFlow tensor; the one that is open is N. Where it does not know how many axes there are,
    as behind an inner function, (): what a step gives is measured anyway."""
    if tensor.shape.rank is None:
        if needed:
            raise ImportFailed(f"TensorFlow does not say how many axes {tensor.name!r} has")
        return ()
    return tuple(Size(1) if length is None else int(length) for length in tensor.shape)


def numbers(value: Value) -> list[int]:
    """A known vector of whole numbers."""
    if not isinstance(value.held, Tensor):
        raise ImportFailed("its lengths or axes depend on the images")
    return [int(n) for n in value.held.reshape(-1).tolist()]


def elementwise(function: Callable[..., Any]) -> Rule:
    """The rule of a function that torch has too; shapes are broadcast."""

    def of(g: Graph, op: Any, *values: Value) -> Value:
        rank = max(value.ndim for value in values)
        wide = [raised(g, value, rank) for value in values]
        held, order = g.aligned(wide)
        made = g.call(function, *held)
        if isinstance(made, Tensor):  # a length that is not known stays so
            axes = [[value.shape[axis] for value in wide if value.ndim == rank] for axis in range(rank)]
            shape = tuple(next((n for n in lengths if n != 1), 1) for lengths in axes)
            return Value(made, shape, order)
        return Value(made, shape_of(op.outputs[0]), order)

    return of


SAME: dict[str, Callable[..., Any]] = {
    "Add": torch.add, "AddV2": torch.add, "Sub": torch.sub, "Mul": torch.mul, "RealDiv": torch.div, "Neg": torch.neg,
    "Div": torch.div, "Exp": torch.exp, "Log": torch.log, "Log1p": torch.log1p, "Expm1": torch.expm1,
    "Tanh": torch.tanh, "Sigmoid": torch.sigmoid, "Erf": torch.erf, "Erfc": torch.erfc, "Sqrt": torch.sqrt,
    "Rsqrt": torch.rsqrt, "Square": torch.square, "Abs": torch.abs, "Sign": torch.sign, "Sin": torch.sin,
    "Cos": torch.cos, "Floor": torch.floor, "Ceil": torch.ceil, "Pow": torch.pow, "Greater": torch.gt,
    "GreaterEqual": torch.ge, "Less": torch.lt, "LessEqual": torch.le, "Equal": torch.eq, "NotEqual": torch.ne,
    "LogicalAnd": torch.logical_and, "LogicalOr": torch.logical_or, "LogicalNot": torch.logical_not,
    "Relu": F.relu, "Relu6": F.relu6, "Elu": F.elu, "Selu": F.selu, "Softplus": F.softplus, "Softsign": F.softsign,
    "Reciprocal": torch.reciprocal, "FloorDiv": torch.floor_divide, "FloorMod": torch.remainder, "Select": torch.where,
    "SelectV2": torch.where,
}  # fmt: skip
RULES.update({name: elementwise(function) for name, function in SAME.items()})


@rule("Identity", "StopGradient", "PreventGradient", "CheckNumerics", "Snapshot", "EnsureShape", "ReadVariableOp")
def same(g: Graph, op: Any, x: Value, *_: Value) -> Value:
    return x


@rule("IdentityN")
def all_same(g: Graph, op: Any, *values: Value) -> list[Value]:
    return list(values)


@rule("Maximum", "Minimum")
def extreme(g: Graph, op: Any, a: Value, b: Value) -> Any:
    upper = op.type == "Maximum"
    for x, other in ((a, b), (b, a)):
        number = other.number()
        if number is not None and not x.known:
            clamped = g.call(torch.clamp, x.held, **{"min" if upper else "max": number})
            return Value(clamped, x.shape, x.order)
    return elementwise(torch.maximum if upper else torch.minimum)(g, op, a, b)


@rule("LeakyRelu")
def leaky_relu(g: Graph, op: Any, x: Value) -> Value:
    return Value(g.call(F.leaky_relu, x.held, negative_slope=op.get_attr("alpha")), x.shape, x.order)


@rule("SquaredDifference")
def squared_difference(g: Graph, op: Any, a: Value, b: Value) -> Value:
    difference = elementwise(torch.sub)(g, op, a, b)
    return Value(g.call(torch.square, difference.held), difference.shape, difference.order)


@rule("ClipByValue")
def clip(g: Graph, op: Any, x: Value, low: Value, high: Value) -> Value:
    return Value(g.call(torch.clamp, x.held, low.number(), high.number()), x.shape, x.order)


@rule("Cast")
def cast(g: Graph, op: Any, x: Value) -> Value:
    wanted = op.get_attr("DstT")
    if wanted.is_floating:
        if not x.known and op.get_attr("SrcT").is_floating:
            return x
        return Value(g.call(Tensor.to, x.held, g.dtype), x.shape, x.order)
    return Value(g.call(Tensor.to, x.held, torch.bool if wanted.is_bool else torch.int64), x.shape, x.order)


@rule("Softmax", "LogSoftmax")
def softmax(g: Graph, op: Any, x: Value) -> Value:
    function = F.softmax if op.type == "Softmax" else F.log_softmax
    return Value(g.call(function, x.held, x.axis(x.ndim - 1)), x.shape, x.order)


# Shapes.


@rule("Shape")
def shape(g: Graph, op: Any, x: Value) -> Tensor:
    return torch.tensor([-1 if isinstance(length, Size) else length for length in x.shape])


@rule("Reshape")
def reshape(g: Graph, op: Any, x: Value, to: Value) -> Any:
    if isinstance(x.held, Tensor) and not any(isinstance(n, Size) for n in x.shape):
        return x.held.reshape(numbers(to))
    wanted = _target(x.shape, numbers(to))
    if isinstance(x, Rows) and wanted == x.of.shape:
        return x.of
    if wanted == x.shape:
        return x
    held = g.reshaped(g.plain(x), wanted)
    if x.ndim > 2 == len(wanted) and wanted[1] == x.shape[-1]:
        return Rows(held, wanted, (0, 1), x)
    return held


def _target(shape: Shape, to: list[int]) -> Shape:
    """The lengths that a reshape asks for. Of two that are -1 the first is N and the second what is left; -9 is 9 N."""
    per = math.prod(n.per if isinstance(n, Size) else n for n in shape)
    left = per // max(1, abs(math.prod(n for n in to if n != -1)))
    places = [place for place, n in enumerate(to) if n == -1]
    many = sum(n < -1 for n in to)
    if not 1 <= len(places) + many <= 2 or many > 1:
        raise ImportFailed(f"a reshape to {to} does not keep the images apart")
    lengths: list[Any] = [Size(-n) if n < -1 else n for n in to]
    if places:
        lengths[places[-1]] = Size(left) if len(places) + many == 1 else left
    if len(places) == 2:
        lengths[places[0]] = Size(1)
    return tuple(lengths)


@rule("Squeeze")
def squeeze(g: Graph, op: Any, x: Value) -> Any:
    axes = [axis % x.ndim for axis in op.get_attr("squeeze_dims")] or [i for i, n in enumerate(x.shape) if n == 1]
    return g.reshaped(g.plain(x), tuple(n for axis, n in enumerate(x.shape) if axis not in axes))


@rule("ExpandDims")
def expand_dims(g: Graph, op: Any, x: Value, axis: Value) -> Any:
    place = numbers(axis)[0]
    return g.call(torch.unsqueeze, g.plain(x), place)


@rule("Transpose")
def transpose(g: Graph, op: Any, x: Value, permutation: Value) -> Value:
    moves = numbers(permutation)
    return Value(x.held, tuple(x.shape[axis] for axis in moves), tuple(moves.index(axis) for axis in x.order))


@rule("ConcatV2")
def concatenate(g: Graph, op: Any, *values: Value) -> Value:
    *parts, axis = values
    place = numbers(axis)[0]
    moving = any(not part.known for part in parts)
    held, order = g.aligned([g.expanded(part) if moving else part for part in parts])
    return Value(g.call(torch.cat, tuple(held), order.index(place % len(order))), shape_of(op.outputs[0]), order)


@rule("Pack")
def pack(g: Graph, op: Any, *values: Value) -> Any:
    moving = any(not value.known for value in values)
    held = tuple(g.plain(g.expanded(value) if moving else value) for value in values)
    return g.call(torch.stack, held, op.get_attr("axis"))


@rule("Split", "SplitV")
def split(g: Graph, op: Any, *values: Value) -> list[Value]:
    axis, x = (values[0], values[1]) if op.type == "Split" else (values[2], values[0])
    place, parts, start = numbers(axis)[0] % x.ndim, [], 0
    for out in op.outputs:
        length = shape_of(out, needed=True)[place]
        if isinstance(length, Size):
            raise ImportFailed("it splits the images of the batch")
        index = (slice(None),) * x.axis(place) + (slice(start, start + length),)
        parts.append(Value(g.call(operator.getitem, x.held, index), shape_of(out), x.order))
        start += length
    return parts


@rule("StridedSlice")
def strided_slice(g: Graph, op: Any, x: Value, begin: Value, end: Value, strides: Value) -> Any:
    masks = {name: op.get_attr(f"{name}_mask") for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    index: list[Any] = []
    turned: list[int] = []
    axis = 0
    listed = list(zip(numbers(begin), numbers(end), numbers(strides), strict=True))
    for place, (start, stop, stride) in enumerate(listed):
        if masks["ellipsis"] >> place & 1:
            new = sum(masks["new_axis"] >> p & 1 for p in range(place + 1, len(listed)))
            left = x.ndim - axis - (len(listed) - place - 1 - new)
            index += [slice(None)] * left
            axis += left
            continue
        if masks["new_axis"] >> place & 1:
            index.append(None)
            continue
        if masks["shrink_axis"] >> place & 1:
            part: Any = start
        else:
            part = slice(
                None if masks["begin"] >> place & 1 else start, None if masks["end"] >> place & 1 else stop, stride
            )
        if isinstance(part, slice) and stride < 0:
            if part != slice(None, None, -1) or isinstance(x.shape[axis], Size):
                raise ImportFailed("a slice that goes backward has a rule only for a whole axis of an image")
            turned.append(axis)
            part = slice(None, None, 1)
        if not x.known and isinstance(x.shape[axis], Size) and part != slice(None, None, 1):
            whole = isinstance(part, slice) and part.start in (None, 0) and part.stop in (None, -1) and part.step == 1
            if not whole:
                raise ImportFailed("it takes a part of the images: each must be computed by itself")
            part = slice(None)
        index.append(slice(None) if part == slice(None, None, 1) else part)
        axis += 1
    held = g.call(torch.flip, g.plain(x), tuple(turned)) if turned else g.plain(x)
    return g.call(operator.getitem, held, tuple(index))


@rule("ReverseV2")
def reverse(g: Graph, op: Any, x: Value, over: Value) -> Value:
    axes = [axis % x.ndim for axis in numbers(over)]
    mixes_images(x, axes, "ReverseV2")
    return Value(g.call(torch.flip, x.held, tuple(x.axis(axis) for axis in axes)), x.shape, x.order)


@rule("Pad", "PadV2", "MirrorPad")
def pad(g: Graph, op: Any, x: Value, amounts: Value, *value: Value) -> Value:
    pairs = [tuple(pair) for pair in torch.tensor(numbers(amounts)).reshape(-1, 2).tolist()]
    ends = [pairs[axis] for axis in x.order]
    if op.type == "MirrorPad":
        if x.ndim != 4 or ends[0] != (0, 0) or ends[1] != (0, 0) or op.get_attr("mode") != b"REFLECT":
            raise ImportFailed("MirrorPad of other than the sides of pictures has no rule")
        return Value(g.call(F.pad, x.held, (*ends[3], *ends[2]), "reflect"), shape_of(op.outputs[0]), x.order)
    number = float(value[0].number() or 0.0) if value else 0.0
    return Value(padded(g, x.held, ends, number), shape_of(op.outputs[0]), x.order)


@rule("Fill", "BroadcastTo")
def fill(g: Graph, op: Any, a: Value, b: Value) -> Any:
    lengths, x = (a, b) if op.type == "Fill" else (b, a)
    shape = tuple(Size(1) if n == -1 else n for n in numbers(lengths))
    x = raised(g, x, len(shape))
    if isinstance(x.held, Tensor):
        return Value(x.held.expand([1 if isinstance(n, Size) else n for n in shape]), shape, tuple(range(len(shape))))
    return Value(g.call(Tensor.expand, g.plain(x), tuple(-1 if isinstance(n, Size) else n for n in shape)), shape,
                 tuple(range(len(shape))))  # fmt: skip


@rule("Tile")
def tile(g: Graph, op: Any, x: Value, times: Value) -> Any:
    counts = numbers(times)
    if -1 in counts:  # a row for each image
        if not x.known or counts[0] != -1 or any(n != 1 for n in counts[1:]):
            raise ImportFailed("it repeats what depends on the images")
        return Value(x.held, (Size(1), *x.shape[1:]), x.order)
    return g.call(Tensor.repeat, g.plain(x), tuple(counts))


@rule("GatherV2")
def gather(g: Graph, op: Any, x: Value, indices: Value, axis: Value) -> Any:
    if not isinstance(indices.held, Tensor) or op.get_attr("batch_dims"):
        raise ImportFailed("it gathers at places that depend on the images")
    place = numbers(axis)[0] % x.ndim
    if isinstance(x.shape[place], Size) and not x.known:
        raise ImportFailed("it takes a part of the images: each must be computed by itself")
    held = g.call(torch.index_select, g.plain(x), place, indices.held.reshape(-1).long())
    wanted = (*x.shape[:place], *indices.shape, *x.shape[place + 1 :])
    return Value(g.reshaped(held, wanted) if indices.ndim != 1 else held, wanted, tuple(range(len(wanted))))


# Reductions.

REDUCTIONS: dict[str, Callable[..., Any]] = {"Mean": torch.mean, "Sum": torch.sum, "Max": torch.amax,
                                             "Min": torch.amin, "Prod": torch.prod}  # fmt: skip


@rule(*REDUCTIONS)
def reduction(g: Graph, op: Any, x: Value, over: Value) -> Any:
    axes = sorted({axis % max(1, x.ndim) for axis in numbers(over)})
    if not axes or x.ndim == 0:
        return x
    if not x.known:
        mixes_images(x, axes, op.type)
    if op.type == "Prod":
        if not isinstance(x.held, Tensor) or len(axes) != 1:
            raise ImportFailed("Prod of what depends on the images has no rule")
        return torch.prod(x.held, axes[0])
    places = tuple(sorted(x.axis(axis) for axis in axes))
    keep = op.get_attr("keep_dims")
    held = g.call(REDUCTIONS[op.type], x.held, places, **({"keepdim": True} if keep else {}))
    if keep:
        return Value(held, shape_of(op.outputs[0]), x.order)
    left = [axis for axis in x.order if axis not in axes]
    return Value(held, shape_of(op.outputs[0]), tuple(sorted(left).index(axis) for axis in left))


@rule("ArgMax")
def argmax(g: Graph, op: Any, x: Value, axis: Value) -> Any:
    return g.call(torch.argmax, g.plain(x), numbers(axis)[0])
