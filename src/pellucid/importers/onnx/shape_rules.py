"""ONNX's operators in torch: shapes, parts, reductions."""

# ruff: noqa: ARG001 - all rules have one signature

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..graph.batch_dims import BATCH_SIZES, check_batch_axis
from ..graph.elementwise import applied, named
from ..graph.graph import BatchDim, Dim, Graph, ImportFailed, Permuted, Shape, Value
from ..graph.products import count_of
from ..graph.reductions import CUMULATIVE, REDUCTIONS, cumulative, place_of_extreme, reduced
from ..graph.shapes import concatenated, cut, gathered, ints, order_without, with_padding, with_rank
from .rules import DynamicDim, Node, axis_of, dims, rule, static_ints, with_free_batch

DYNAMIC = frozenset({"Reshape", "Expand", "Slice", "Resize"})  # take dimensions that depend on the batch size


@rule("Constant")
def constant(g: Graph, node: Node) -> Tensor:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        value = node.get(name)
        if value is not None:
            return value if isinstance(value, Tensor) else torch.tensor(value)
    raise ImportFailed("a constant of text, or of mostly zeros, has no rule")


@rule("ConstantOfShape")
def constant_of_shape(g: Graph, node: Node, shape: Value) -> Tensor:
    value = node.get("value", torch.zeros(1, dtype=g.dtype))
    return torch.full(ints(shape), value.item(), dtype=value.dtype)


@rule("Shape", "Size")
def shape(g: Graph, node: Node, x: Value) -> Any:
    if isinstance(x, DynamicDim):
        return torch.tensor(x.tensors[0].shape)
    wanted = x.shape[slice(node.get("start", 0), node.get("end"))]
    found = [torch.tensor([n.at(count) if isinstance(n, BatchDim) else n for n in wanted]) for count in BATCH_SIZES]
    if node.kind == "Size":
        found = [t.prod() for t in found]
    return found[0] if torch.equal(*found) else DynamicDim((found[0], found[1]))


@rule("Reshape", "Flatten")
def reshape(g: Graph, node: Node, x: Value, to: Value | DynamicDim | None = None) -> Any:
    if to is None:  # Flatten
        axis = axis_of(x, node.get("axis", 1)) if node.get("axis", 1) != x.ndim else x.ndim
        to_ = [count_of(x.shape[:axis]), count_of(x.shape[axis:])]
    else:
        to_ = [x.shape[i] if n == 0 and not node.get("allowzero") else n for i, n in enumerate(dims(to))]
    return g.reshaped(g.plain(x), target(x.shape, to_, node.batch_size))


def target(shape: Shape, to: Sequence[Dim], batch_size: int | None) -> Shape:
    """The shape that a reshape asks for; a dimension that was written for `batch_size` images is open again."""
    wanted, whole = list(to), count_of(shape)
    if isinstance(whole, BatchDim) and not any(isinstance(n, BatchDim) for n in wanted):
        axis, each = next((i, n.per) for i, n in enumerate(shape) if isinstance(n, BatchDim))
        before = math.prod(n for n in shape[:axis] if isinstance(n, int))
        plain = [n for n in wanted if isinstance(n, int)]
        place = _of_images(plain, before, each, batch_size)
        known = math.prod(n for n in plain if n != -1)
        written = plain[place]
        wanted[place] = BatchDim(whole.per // known if written == -1 else written // (batch_size or 1))
    if -1 in wanted:
        known = math.prod(n.per if isinstance(n, BatchDim) else n for n in wanted if n != -1)
        wanted[wanted.index(-1)] = (whole.per if isinstance(whole, BatchDim) else whole) // max(1, known)
    return tuple(wanted)


def _of_images(to: list[int], before: int, each: int, batch_size: int | None) -> int:
    """Which of the dimensions that a reshape asks for grows with the batch.

    It is one that is the batch size itself, one that begins where the images' axis does, or one that joins that axis
    with what is before it; the last is of features. Before the images' axis are so many numbers, and in it `each` an
    image.
    """
    done = [math.prod(to[:place]) for place in range(len(to))]
    places = range(len(to) - 1) if batch_size else [place for place, n in enumerate(to) if n == -1]
    batch_size = batch_size or 1
    for fits in (
        lambda at, n: n == batch_size and done[at] % before == 0 and before * each % done[at] == 0,
        lambda at, n: done[at] == before and (n == -1 or n % batch_size == 0),
        lambda at, n: n == -1 or (before % done[at] == 0 and n % (before // done[at] * batch_size) == 0),
    ):
        found = [place for place in places if fits(place, to[place])]
        if found:
            return found[0]
    raise ImportFailed(f"a reshape to {to} does not keep the images of a batch apart")


@rule("Squeeze")
def squeeze(g: Graph, node: Node, x: Value, axes: Value | None = None) -> Any:
    places = static_ints(node, "axes", axes)
    gone = [i for i, n in enumerate(x.shape) if n == 1] if places is None else [axis_of(x, axis) for axis in places]
    check_batch_axis(x, gone, node.kind)
    return Permuted(g.reshaped(x.held, tuple(x.shape[axis] for axis in x.order if axis not in gone)),
                    order_without(x, gone))  # fmt: skip


@rule("Unsqueeze")
def unsqueeze(g: Graph, node: Node, x: Value, axes: Value | None = None) -> Any:
    places = static_ints(node, "axes", axes) or []
    rank = x.ndim + len(places)
    new = {axis % rank for axis in places}
    old = [axis for axis in range(rank) if axis not in new]
    order = [old[axis] for axis in x.order]
    for axis in sorted(new):  # each beside the one before it, so that a feature map keeps its sides last
        order.insert(order.index(axis - 1) + 1 if axis else 0, axis)
    return Permuted(g.reshaped(x.held, tuple(1 if a in new else x.shape[old.index(a)] for a in order)), tuple(order))


@rule("Transpose")
def transpose(g: Graph, node: Node, x: Value) -> Any:
    moves = list(node.get("perm", range(x.ndim)[::-1]))
    out = x.transposed(moves)
    if out.order == (0, x.ndim - 1, *range(1, x.ndim - 1)) and x.ndim >= 4:
        return out  # a feature map with its channels last is held with its channels second
    return g.plain(out)


@rule("Concat")
def concat(g: Graph, node: Node, *values: Value) -> Value:
    axis = axis_of(values[0], node.get("axis", 1))
    check_batch_axis(next((v for v in values if not v.known), values[0]), [axis], node.kind)
    return concatenated(g, with_free_batch(g, node, values), axis)


@rule("Split")
def split(g: Graph, node: Node, x: Value, lengths: Value | None = None) -> list[Permuted]:
    axis = axis_of(x, node.get("axis", 0))
    check_batch_axis(x, [axis], node.kind)
    whole, parts = x.shape[axis], len(node.outputs)
    assert isinstance(whole, int)
    each = math.ceil(whole / parts)
    given = static_ints(node, "split", lengths) or [each] * (parts - 1) + [whole - each * (parts - 1)]
    ends = [sum(given[: i + 1]) for i in range(parts)]
    return [Permuted(cut(g, x, axis, slice(end - n, end)), x.order) for end, n in zip(ends, given, strict=True)]


@rule("Slice")
def slice_(g: Graph, node: Node, x: Value, *given: Value | DynamicDim | None) -> Any:
    inputs = dict(zip(("starts", "ends", "axes", "steps"), given, strict=False))
    starts, ends = (
        dims(value) if (value := inputs.get(name)) is not None else [int(n) for n in node.get(name)]
        for name in ("starts", "ends")
    )
    axes, strides = (static_ints(node, name, inputs.get(name)) for name in ("axes", "steps"))
    axes = list(range(len(starts))) if axes is None else [axis_of(x, axis) for axis in axes]
    held = x.held
    for axis, start, end, stride in zip(axes, starts, ends, strides or [1] * len(axes), strict=True):
        whole = x.shape[axis]
        if isinstance(whole, BatchDim):
            if start == 0 and stride == 1 and (end == whole or (isinstance(end, int) and end >= 2**31 - 1)):
                continue
            raise ImportFailed("it takes a part of the images: each must be computed by itself")
        if not isinstance(start, int) or not isinstance(end, int):
            raise ImportFailed("it takes a part that depends on the batch size")
        places = range(whole)[start:end:stride]
        if places == range(whole):
            continue
        part = Value(held, x.shape, x.order)
        if stride > 0:
            held = cut(g, part, axis, slice(places.start, places.stop, stride))
        else:
            held = g.call(torch.index_select, held, x.axis(axis), torch.tensor(list(places), dtype=torch.long))
    return Permuted(held, x.order)


@rule("Gather")
def gather(g: Graph, node: Node, x: Value, indices: Value | DynamicDim) -> Any:
    axis = axis_of(x, node.get("axis", 0))
    check_batch_axis(x, [axis], node.kind)
    at, whole = ints(indices), x.shape[axis]
    assert isinstance(whole, int) and isinstance(indices, Value) and isinstance(indices.held, Tensor)
    if indices.ndim == 0:
        return Permuted(cut(g, x, axis, at[0] % whole), order_without(x, [axis]))
    return gathered(g, x, indices.held, axis)


@rule("GatherND")
def gather_places(g: Graph, node: Node, x: Value, indices: Value) -> Any:
    """Parts at known places along the first axes, as torch's newer exporter writes windows of several sizes."""
    if node.get("batch_dims") or not isinstance(indices.held, Tensor) or not indices.ndim:
        raise ImportFailed("it has a rule only for known places along the first axes")
    *places, depth = indices.held.shape
    first = [n for n in x.shape[:depth] if isinstance(n, int)]
    check_batch_axis(x, range(depth), node.kind)
    strides = torch.tensor([math.prod(first[axis + 1 :]) for axis in range(len(first))])
    at = (indices.held % torch.tensor(first) * strides).sum(-1)
    flat = g.reshaped(g.plain(x), (math.prod(first), *x.shape[len(first) :]))
    return g.reshaped(g.call(torch.index_select, flat, 0, at.reshape(-1)), (*places, *x.shape[len(first) :]))


@rule("Expand")
def expand(g: Graph, node: Node, x: Value, to: Value | DynamicDim) -> Any:
    rank = max(x.ndim, len(dims(to)))
    x = with_rank(g, x, rank) if x.ndim else Value(g.reshaped(x.held, (1,) * rank), (1,) * rank, tuple(range(rank)))
    wanted = [1] * (rank - len(dims(to))) + dims(to)
    grow = [
        -1 if isinstance(n, BatchDim) or new in (1, n) else g.length(new)
        for n, new in zip(x.shape, wanted, strict=True)
    ]
    if all(n == -1 for n in grow):
        return Permuted(x.held, x.order)
    return g.call(Tensor.expand, g.plain(x), tuple(grow))


@rule("Tile")
def tile(g: Graph, node: Node, x: Value, times: Value) -> Any:
    counts = ints(times)
    check_batch_axis(x, [axis for axis, n in enumerate(counts) if n != 1], node.kind)
    return g.call(Tensor.repeat, g.plain(x), tuple(counts))


@rule("Pad")
def pad(g: Graph, node: Node, x: Value, *given: Value | None) -> Any:
    pads, value, axes = (*given, None, None, None)[:3]
    amounts = static_ints(node, "pads", pads) or []
    number = value.number() if isinstance(value, Value) else node.get("value", 0.0)
    over = [axis_of(x, axis) for axis in ints(axes)] if axes is not None else list(range(x.ndim))
    ends = {axis: (amounts[i], amounts[i + len(over)]) for i, axis in enumerate(over)}
    check_batch_axis(x, [axis for axis, pair in ends.items() if any(pair)], node.kind)
    mode, pairs = node.get("mode", "constant"), [ends.get(axis, (0, 0)) for axis in range(x.ndim)]
    if mode == "constant":
        return with_padding(g, x, pairs, float(number or 0.0))
    high, wide = (pairs[axis] for axis in x.order[-2:])
    if x.ndim != 4 or any(any(pairs[axis]) for axis in x.order[:2]):
        raise ImportFailed(f"padding of mode {mode!r} has a rule only for the sides of N x C x H x W")
    modes = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    return applied(g, F.pad, x, (*wide, *high), modes[mode])


# Reductions.

REDUCE = named("onnx", REDUCTIONS)
COMPOSED = {  # what is done before a sum, and after it
    "ReduceSumSquare": (torch.square, None), "ReduceL2": (torch.square, torch.sqrt), "ReduceL1": (torch.abs, None),
    "ReduceLogSum": (None, torch.log),
}  # fmt: skip


@rule(*REDUCE, *COMPOSED)
def reduction(g: Graph, node: Node, x: Value, axes: Value | None = None) -> Value:
    given = static_ints(node, "axes", axes)
    if not given and node.get("noop_with_empty_axes"):
        return x
    over = [axis_of(x, axis) for axis in given] if given else list(range(x.ndim))
    before, after = COMPOSED.get(node.kind, (None, None))
    out = applied(g, before, x) if before else x
    function = REDUCE.get(node.kind, torch.sum)
    out = reduced(g, function, out, over, keep=bool(node.get("keepdims", 1)), name=node.kind)
    return applied(g, after, out) if after else out


@rule("ArgMax", "ArgMin")
def argmax(g: Graph, node: Node, x: Value) -> Any:
    if node.get("select_last_index"):
        raise ImportFailed("the last of equal places has no rule")
    axis, keep = axis_of(x, node.get("axis", 0)), bool(node.get("keepdims", 1))
    return place_of_extreme(g, node.kind == "ArgMax", x, axis, keep=keep, name=node.kind)


RUNNING = named("onnx", CUMULATIVE)


@rule(*RUNNING)
def running(g: Graph, node: Node, x: Value, axis: Value) -> Value:
    if node.get("exclusive"):
        raise ImportFailed("a running sum without the number itself has no rule")
    place = axis_of(x, *ints(axis))
    return cumulative(g, RUNNING[node.kind], x, place, reverse=bool(node.get("reverse")), name=node.kind)


@rule("DepthToSpace", "SpaceToDepth")
def depth(g: Graph, node: Node, x: Value) -> Any:
    size = int(node.get("blocksize"))
    if node.kind == "SpaceToDepth":
        n, c, h, w = x.shape
        assert isinstance(c, int) and isinstance(h, int) and isinstance(w, int)
        held = g.reshaped(g.plain(x), (n, c, h // size, size, w // size, size))
        held = g.call(Tensor.permute, held, (0, 3, 5, 1, 2, 4))
        return g.reshaped(held, (n, c * size * size, h // size, w // size))
    if node.get("mode", "DCR") == "CRD":
        return g.call(F.pixel_shuffle, g.plain(x), size)
    n, c, h, w = x.shape
    assert isinstance(c, int) and isinstance(h, int) and isinstance(w, int)
    held = g.reshaped(g.plain(x), (n, size, size, c // size**2, h, w))
    held = g.call(Tensor.permute, held, (0, 3, 4, 1, 5, 2))
    return g.reshaped(held, (n, c // size**2, h * size, w * size))
