"""TensorFlow's operations in torch: arithmetic, shapes, reductions (convolutions, pools, batch norm, products of
matrices: linear_rules.py).

To add an operation that torch has as a function of each number, or as a reduction, write one row of the tables in
graph/elementwise.py or graph/reductions.py. Any other has a rule here: a function of the graph, the tf.Operation and a
`Value` for each input. It returns what torch holds with its axes as in TensorFlow, `Permuted` where they are in another
order, a `Value`, or a list of those for several outputs. See `squared_difference` for a short one.

A dimension that is not known is N, and -1 where TensorFlow computes with it.
"""

# ruff: noqa: ARG001 - all rules have one signature

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..graph import reductions
from ..graph.elementwise import applied, broadcast, cast, elementwise, extreme, named
from ..graph.graph import BatchDim, Graph, ImportFailed, Permuted, Shape, Value
from ..graph.reductions import CUMULATIVE, REDUCTIONS, cumulative, place_of_extreme, reduced
from ..graph.rules import Rules
from ..graph.shapes import concatenated, cut, flipped, gathered, ints, stacked, with_padding, with_rank, without_batch

RULES = Rules()
rule = RULES.rule
RULES.update({name: elementwise(function) for name, function in named("tensorflow").items()})


@dataclass(frozen=True, eq=False)
class Rows(Value):
    """All axes but the last of another value as one, which TensorFlow multiplies a matrix with, to part them again."""

    unflattened: Value


def shape_of(tensor: Any, needed: bool = False) -> Shape:
    """The shape of a TensorFlow tensor; a dimension that is open is N. Where it does not know how many axes there are,
    as behind an inner function, (): what a step gives is measured anyway."""
    if tensor.shape.rank is None:
        if needed:
            raise ImportFailed(f"TensorFlow does not say how many axes {tensor.name!r} has")
        return ()
    return tuple(BatchDim(1) if length is None else int(length) for length in tensor.shape)


@rule("Identity", "StopGradient", "PreventGradient", "CheckNumerics", "Snapshot", "EnsureShape", "ReadVariableOp")
def same(g: Graph, op: Any, x: Value, *_: Value) -> Value:
    return x


@rule("IdentityN")
def all_same(g: Graph, op: Any, *values: Value) -> list[Value]:
    return list(values)


@rule("Maximum", "Minimum")
def max_or_min(g: Graph, op: Any, a: Value, b: Value) -> Value:
    return extreme(g, op.type == "Maximum", a, b)


@rule("LeakyRelu")
def leaky_relu(g: Graph, op: Any, x: Value) -> Value:
    return applied(g, F.leaky_relu, x, negative_slope=op.get_attr("alpha"))


@rule("SquaredDifference")
def squared_difference(g: Graph, op: Any, a: Value, b: Value) -> Value:
    return applied(g, torch.square, broadcast(g, torch.sub, a, b))


@rule("ClipByValue")
def clip(g: Graph, op: Any, x: Value, low: Value, high: Value) -> Value:
    return applied(g, torch.clamp, x, low.number(), high.number())


@rule("Cast")
def convert(g: Graph, op: Any, x: Value) -> Value:
    to = op.get_attr("DstT")
    dtype = g.dtype if to.is_floating else torch.bool if to.is_bool else torch.int64
    return cast(g, x, dtype, op.get_attr("SrcT").is_floating)


@rule("Softmax", "LogSoftmax")
def softmax(g: Graph, op: Any, x: Value) -> Value:
    return reductions.softmax(g, x, -1, logarithm=op.type == "LogSoftmax", name=op.type)


# Shapes.


@rule("Shape")
def shape(g: Graph, op: Any, x: Value) -> Tensor:
    return torch.tensor([-1 if isinstance(length, BatchDim) else length for length in x.shape])


@rule("Reshape")
def reshape(g: Graph, op: Any, x: Value, to: Value) -> Any:
    if isinstance(x.held, Tensor) and not any(isinstance(n, BatchDim) for n in x.shape):
        return x.held.reshape(ints(to))
    wanted = _target(x.shape, ints(to))
    if isinstance(x, Rows) and wanted == x.unflattened.shape:
        return x.unflattened
    if wanted == x.shape:
        return x
    held = g.reshaped(g.plain(x), wanted)
    if x.ndim > 2 == len(wanted) and wanted[1] == x.shape[-1]:
        return Rows(held, wanted, (0, 1), x)
    return held


def _target(shape: Shape, to: list[int]) -> Shape:
    """The lengths that a reshape asks for. Of two that are -1 the first is N and the second what is left; -9 is 9 N."""
    per = math.prod(n.per if isinstance(n, BatchDim) else n for n in shape)
    left = per // max(1, abs(math.prod(n for n in to if n != -1)))
    places = [place for place, n in enumerate(to) if n == -1]
    many = sum(n < -1 for n in to)
    if not 1 <= len(places) + many <= 2 or many > 1:
        raise ImportFailed(f"a reshape to {to} does not keep the images apart")
    lengths: list[Any] = [BatchDim(-n) if n < -1 else n for n in to]
    if places:
        lengths[places[-1]] = BatchDim(left) if len(places) + many == 1 else left
    if len(places) == 2:
        lengths[places[0]] = BatchDim(1)
    return tuple(lengths)


@rule("Squeeze")
def squeeze(g: Graph, op: Any, x: Value) -> Any:
    axes = [axis % x.ndim for axis in op.get_attr("squeeze_dims")] or [i for i, n in enumerate(x.shape) if n == 1]
    return g.reshaped(g.plain(x), tuple(n for axis, n in enumerate(x.shape) if axis not in axes))


@rule("ExpandDims")
def expand_dims(g: Graph, op: Any, x: Value, axis: Value) -> Any:
    place = ints(axis)[0]
    return g.call(torch.unsqueeze, g.plain(x), place)


@rule("Transpose")
def transpose(g: Graph, op: Any, x: Value, permutation: Value) -> Value:
    return x.transposed(ints(permutation))


@rule("ConcatV2")
def concatenate(g: Graph, op: Any, *values: Value) -> Value:
    *parts, axis = values
    return concatenated(g, parts, ints(axis)[0] % parts[0].ndim)


@rule("Pack")
def pack(g: Graph, op: Any, *values: Value) -> Any:
    return stacked(g, values, op.get_attr("axis"))


@rule("Split", "SplitV")
def split(g: Graph, op: Any, *values: Value) -> list[Value]:
    axis, x = (values[0], values[1]) if op.type == "Split" else (values[2], values[0])
    place, parts, start = ints(axis)[0] % x.ndim, [], 0
    for out in op.outputs:
        length = shape_of(out, needed=True)[place]
        if isinstance(length, BatchDim):
            raise ImportFailed("it splits the images of the batch")
        parts.append(Value(cut(g, x, place, slice(start, start + length)), shape_of(out), x.order))
        start += length
    return parts


@rule("StridedSlice")
def strided_slice(g: Graph, op: Any, x: Value, begin: Value, end: Value, strides: Value) -> Any:
    masks = {name: op.get_attr(f"{name}_mask") for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    index: list[Any] = []
    reversed_axes: list[int] = []
    axis = 0
    listed = list(zip(ints(begin), ints(end), ints(strides), strict=True))
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
            if part != slice(None, None, -1) or isinstance(x.shape[axis], BatchDim):
                raise ImportFailed("a slice that goes backward has a rule only for a whole axis of an image")
            reversed_axes.append(axis)
            part = slice(None, None, 1)
        if not x.known and isinstance(x.shape[axis], BatchDim) and part != slice(None, None, 1):
            whole = isinstance(part, slice) and part.start in (None, 0) and part.stop in (None, -1) and part.step == 1
            if not whole:
                raise ImportFailed("it takes a part of the images: each must be computed by itself")
            part = slice(None)
        index.append(slice(None) if part == slice(None, None, 1) else part)
        axis += 1
    held = g.call(torch.flip, g.plain(x), tuple(reversed_axes)) if reversed_axes else g.plain(x)
    return g.call(operator.getitem, held, tuple(index))


@rule("ReverseV2")
def reverse(g: Graph, op: Any, x: Value, over: Value) -> Value:
    return flipped(g, x, [axis % x.ndim for axis in ints(over)], "ReverseV2")


@rule("Pad", "PadV2", "MirrorPad")
def pad(g: Graph, op: Any, x: Value, amounts: Value, *value: Value) -> Value | Permuted:
    pairs = torch.tensor(ints(amounts)).reshape(-1, 2).tolist()
    if op.type == "MirrorPad":
        ends = [pairs[axis] for axis in x.order]
        if x.ndim != 4 or any(ends[0]) or any(ends[1]) or op.get_attr("mode") != b"REFLECT":
            raise ImportFailed("it has a rule only for mode REFLECT on the sides of a feature map")
        return Permuted(g.call(F.pad, x.held, (*ends[3], *ends[2]), "reflect"), x.order)
    return with_padding(g, x, pairs, float(value[0].number() or 0.0) if value else 0.0)


@rule("Fill", "BroadcastTo")
def fill(g: Graph, op: Any, a: Value, b: Value) -> Any:
    lengths, x = (a, b) if op.type == "Fill" else (b, a)
    shape = tuple(BatchDim(1) if n == -1 else n for n in ints(lengths))
    x = with_rank(g, x, len(shape))
    if isinstance(x.held, Tensor):
        return Value.of(x.held.expand(without_batch(shape)), shape)
    return g.call(Tensor.expand, g.plain(x), tuple(-1 if isinstance(n, BatchDim) else n for n in shape))


@rule("Tile")
def tile(g: Graph, op: Any, x: Value, times: Value) -> Any:
    counts = ints(times)
    if -1 in counts:  # a row for each image
        if not x.known or counts[0] != -1 or any(n != 1 for n in counts[1:]):
            raise ImportFailed("it repeats what depends on the images")
        return Value(x.held, (BatchDim(1), *x.shape[1:]), x.order)
    return g.call(Tensor.repeat, g.plain(x), tuple(counts))


@rule("GatherV2")
def gather(g: Graph, op: Any, x: Value, indices: Value, axis: Value) -> Any:
    if not isinstance(indices.held, Tensor) or op.get_attr("batch_dims"):
        raise ImportFailed("it gathers at places that depend on the images")
    place = ints(axis)[0] % x.ndim
    return gathered(g, x, indices.held, place)


# Reductions.

REDUCE, RUNNING = named("tensorflow", REDUCTIONS), named("tensorflow", CUMULATIVE)


@rule(*REDUCE)
def reduction(g: Graph, op: Any, x: Value, over: Value) -> Value:
    return reduced(g, REDUCE[op.type], x, ints(over), keep=op.get_attr("keep_dims"), name=op.type)


@rule("ArgMax", "ArgMin")
def argmax(g: Graph, op: Any, x: Value, axis: Value) -> Any:
    return place_of_extreme(g, op.type == "ArgMax", x, ints(axis)[0] % x.ndim, name=op.type)


@rule(*RUNNING)
def running(g: Graph, op: Any, x: Value, axis: Value) -> Value:
    if op.get_attr("exclusive"):
        raise ImportFailed("a running sum without the number itself has no rule")
    place = ints(axis)[0] % x.ndim
    return cumulative(g, RUNNING[op.type], x, place, reverse=op.get_attr("reverse"), name=op.type)
