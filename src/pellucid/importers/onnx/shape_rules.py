"""ONNX's operators in torch: shapes, parts, reductions."""

# ruff: noqa: ARG001 - all rules have one signature

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..graph.batch_lengths import COUNTS
from ..graph.graph import Graph, Held, ImportFailed, Length, Shape, Size, Value
from ..graph.rule_parts import mixes_images, padded, raised
from .rules import Counted, Node, Turned, axis_of, lengths, numbers, product, rule, same_count, told

COUNTING = frozenset({"Reshape", "Expand", "Slice", "Resize"})  # take lengths that depend on how many images there are


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
    return torch.full(numbers(shape), value.item(), dtype=value.dtype)


@rule("Shape", "Size")
def shape(g: Graph, node: Node, x: Value) -> Any:
    if isinstance(x, Counted):
        return torch.tensor(x.tensors[0].shape)
    wanted = x.shape[slice(node.get("start", 0), node.get("end"))]
    sizes = [torch.tensor([n.at(count) if isinstance(n, Size) else n for n in wanted]) for count in COUNTS]
    if node.kind == "Size":
        sizes = [t.prod() for t in sizes]
    return sizes[0] if torch.equal(*sizes) else Counted((sizes[0], sizes[1]))


@rule("Reshape", "Flatten")
def reshape(g: Graph, node: Node, x: Value, to: Value | Counted | None = None) -> Any:
    if to is None:  # Flatten
        axis = axis_of(x, node.get("axis", 1)) if node.get("axis", 1) != x.ndim else x.ndim
        to_ = [product(x.shape[:axis]), product(x.shape[axis:])]
    else:
        to_ = [x.shape[i] if n == 0 and not node.get("allowzero") else n for i, n in enumerate(lengths(to))]
    return g.reshaped(g.plain(x), target(x.shape, to_, node.count))


def target(shape: Shape, to: Sequence[Length], count: int | None) -> Shape:
    """The lengths that a reshape asks for; those that were written for `count` images are open again."""
    wanted, whole = list(to), product(shape)
    if isinstance(whole, Size) and not any(isinstance(n, Size) for n in wanted):
        axis, each = next((i, n.per) for i, n in enumerate(shape) if isinstance(n, Size))
        before = math.prod(n for n in shape[:axis] if isinstance(n, int))
        plain = [n for n in wanted if isinstance(n, int)]
        place = _of_images(plain, before, each, count)
        known = math.prod(n for n in plain if n != -1)
        written = plain[place]
        wanted[place] = Size(whole.per // known if written == -1 else written // (count or 1))
    if -1 in wanted:
        known = math.prod(n.per if isinstance(n, Size) else n for n in wanted if n != -1)
        wanted[wanted.index(-1)] = (whole.per if isinstance(whole, Size) else whole) // max(1, known)
    return tuple(wanted)


def _of_images(to: list[int], before: int, each: int, count: int | None) -> int:
    """Which of the lengths that a reshape asks for grows with the batch.

    It is one that is the count itself, one that begins where the images' axis does, or one that joins that axis with
    what is before it; the last is of features. Before the images' axis are so many numbers, and in it `each` a image.
    """
    done = [math.prod(to[:place]) for place in range(len(to))]
    places = range(len(to) - 1) if count else [place for place, n in enumerate(to) if n == -1]
    count = count or 1
    for fits in (
        lambda at, n: n == count and done[at] % before == 0 and before * each % done[at] == 0,
        lambda at, n: done[at] == before and (n == -1 or n % count == 0),
        lambda at, n: n == -1 or (before % done[at] == 0 and n % (before // done[at] * count) == 0),
    ):
        found = [place for place in places if fits(place, to[place])]
        if found:
            return found[0]
    raise ImportFailed(f"a reshape to {to} does not keep the images of a batch apart")


@rule("Squeeze")
def squeeze(g: Graph, node: Node, x: Value, axes: Value | None = None) -> Any:
    places = told(node, "axes", axes)
    gone = [i for i, n in enumerate(x.shape) if n == 1] if places is None else [axis_of(x, axis) for axis in places]
    mixes_images(x, gone, node.kind)
    left = [axis for axis in x.order if axis not in gone]
    held = g.reshaped(x.held, tuple(x.shape[axis] for axis in left))
    return Turned(held, tuple(sorted(left).index(axis) for axis in left))


@rule("Unsqueeze")
def unsqueeze(g: Graph, node: Node, x: Value, axes: Value | None = None) -> Any:
    places = told(node, "axes", axes) or []
    rank = x.ndim + len(places)
    new = {axis % rank for axis in places}
    old = [axis for axis in range(rank) if axis not in new]
    order = [old[axis] for axis in x.order]
    for axis in sorted(new):  # each beside the one before it, so that a picture keeps its sides last
        order.insert(order.index(axis - 1) + 1 if axis else 0, axis)
    return Turned(g.reshaped(x.held, tuple(1 if a in new else x.shape[old.index(a)] for a in order)), tuple(order))


@rule("Transpose")
def transpose(g: Graph, node: Node, x: Value) -> Any:
    moves = list(node.get("perm", range(x.ndim)[::-1]))
    turned = Value(x.held, tuple(x.shape[axis] for axis in moves), tuple(moves.index(axis) for axis in x.order))
    last = (0, x.ndim - 1, *range(1, x.ndim - 1))
    if turned.order == last and x.ndim >= 4:  # a picture with its channels last is held with its channels second
        return Turned(turned.held, turned.order)
    return g.plain(turned)


@rule("Concat")
def concat(g: Graph, node: Node, *values: Value) -> Turned:
    place = axis_of(values[0], node.get("axis", 1))
    mixes_images(next((v for v in values if not v.known), values[0]), [place], node.kind)
    parts = same_count(node, values)
    moving = any(not part.known for part in parts)
    held, order = g.aligned([g.expanded(part) if moving else part for part in parts])
    return Turned(g.call(torch.cat, tuple(held), order.index(place)), order)


@rule("Split")
def split(g: Graph, node: Node, x: Value, sizes: Value | None = None) -> list[Turned]:
    axis = axis_of(x, node.get("axis", 0))
    mixes_images(x, [axis], node.kind)
    whole, parts = x.shape[axis], len(node.outputs)
    assert isinstance(whole, int)
    each = math.ceil(whole / parts)
    given = told(node, "split", sizes) or [each] * (parts - 1) + [whole - each * (parts - 1)]
    ends = [sum(given[: i + 1]) for i in range(parts)]
    return [Turned(cut(g, x, x.held, axis, slice(end - n, end)), x.order) for end, n in zip(ends, given, strict=True)]


def cut(g: Graph, x: Value, held: Held, axis: int, part: slice | int) -> Any:
    """A part of what is held, along an axis of ONNX."""
    return g.call(operator.getitem, held, (slice(None),) * x.axis(axis) + (part,))


@rule("Slice")
def slice_(g: Graph, node: Node, x: Value, *given: Value | Counted | None) -> Any:
    inputs = dict(zip(("starts", "ends", "axes", "steps"), given, strict=False))
    starts, ends = (
        lengths(value) if (value := inputs.get(name)) is not None else [int(n) for n in node.get(name)]
        for name in ("starts", "ends")
    )
    axes, strides = (told(node, name, inputs.get(name)) for name in ("axes", "steps"))
    axes = list(range(len(starts))) if axes is None else [axis_of(x, axis) for axis in axes]
    held = x.held
    for axis, start, end, stride in zip(axes, starts, ends, strides or [1] * len(axes), strict=True):
        whole = x.shape[axis]
        if isinstance(whole, Size):
            if start == 0 and stride == 1 and (end == whole or (isinstance(end, int) and end >= 2**31 - 1)):
                continue
            raise ImportFailed("it takes a part of the images: each must be computed by itself")
        if not isinstance(start, int) or not isinstance(end, int):
            raise ImportFailed("it takes a part that depends on how many images there are")
        places = range(whole)[start:end:stride]
        if places == range(whole):
            continue
        if stride > 0:
            held = cut(g, x, held, axis, slice(places.start, places.stop, stride))
        else:
            held = g.call(torch.index_select, held, x.axis(axis), torch.tensor(list(places), dtype=torch.long))
    return Turned(held, x.order)


@rule("Gather")
def gather(g: Graph, node: Node, x: Value, indices: Value | Counted) -> Any:
    axis = axis_of(x, node.get("axis", 0))
    mixes_images(x, [axis], node.kind)
    at, whole = numbers(indices), x.shape[axis]
    assert isinstance(whole, int) and isinstance(indices, Value)
    if indices.ndim == 0:
        held = cut(g, x, x.held, axis, at[0] % whole)
        return Turned(held, tuple(a - (a > axis) for a in x.order if a != axis))
    held = g.call(torch.index_select, g.plain(x), axis, torch.tensor([n % whole for n in at]))
    wanted = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return held if indices.ndim == 1 else g.reshaped(held, wanted)


@rule("GatherND")
def gather_places(g: Graph, node: Node, x: Value, indices: Value) -> Any:
    """Parts at known places along the first axes, as torch's newer exporter writes windows of several sizes."""
    if node.get("batch_dims") or not isinstance(indices.held, Tensor) or not indices.ndim:
        raise ImportFailed("it has a rule only for known places along the first axes")
    *places, depth = indices.held.shape
    first = [n for n in x.shape[:depth] if isinstance(n, int)]
    mixes_images(x, range(depth), node.kind)
    strides = torch.tensor([math.prod(first[axis + 1 :]) for axis in range(len(first))])
    at = (indices.held % torch.tensor(first) * strides).sum(-1)
    flat = g.reshaped(g.plain(x), (math.prod(first), *x.shape[len(first) :]))
    return g.reshaped(g.call(torch.index_select, flat, 0, at.reshape(-1)), (*places, *x.shape[len(first) :]))


@rule("Expand")
def expand(g: Graph, node: Node, x: Value, to: Value | Counted) -> Any:
    rank = max(x.ndim, len(lengths(to)))
    x = raised(g, x, rank) if x.ndim else Value(g.reshaped(x.held, (1,) * rank), (1,) * rank, tuple(range(rank)))
    wanted = [1] * (rank - len(lengths(to))) + lengths(to)
    grow = [
        -1 if isinstance(n, Size) or new in (1, n) else g.length(new) for n, new in zip(x.shape, wanted, strict=True)
    ]
    if all(n == -1 for n in grow):
        return Turned(x.held, x.order)
    return g.call(Tensor.expand, g.plain(x), tuple(grow))


@rule("Tile")
def tile(g: Graph, node: Node, x: Value, times: Value) -> Any:
    counts = numbers(times)
    mixes_images(x, [axis for axis, n in enumerate(counts) if n != 1], node.kind)
    return g.call(Tensor.repeat, g.plain(x), tuple(counts))


@rule("Pad")
def pad(g: Graph, node: Node, x: Value, *given: Value | None) -> Any:
    pads, value, axes = (*given, None, None, None)[:3]
    amounts = told(node, "pads", pads) or []
    number = value.number() if isinstance(value, Value) else node.get("value", 0.0)
    over = [axis_of(x, axis) for axis in numbers(axes)] if axes is not None else list(range(x.ndim))
    ends = {axis: (amounts[i], amounts[i + len(over)]) for i, axis in enumerate(over)}
    mixes_images(x, [axis for axis, pair in ends.items() if any(pair)], node.kind)
    pairs = [ends.get(axis, (0, 0)) for axis in x.order]
    mode = node.get("mode", "constant")
    if mode == "constant":
        return Turned(padded(g, x.held, pairs, float(number or 0.0)), x.order)
    if x.ndim != 4 or any(pairs[0]) or any(pairs[1]):
        raise ImportFailed(f"padding of mode {mode!r} of other than the sides of pictures has no rule")
    words = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    return Turned(g.call(F.pad, x.held, (*pairs[3], *pairs[2]), words[mode]), x.order)


# Reductions.

REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax, "ReduceMin": torch.amin,
    "ReduceSumSquare": torch.sum, "ReduceL2": torch.sum, "ReduceL1": torch.sum, "ReduceLogSum": torch.sum,
    "ReduceLogSumExp": torch.logsumexp, "ReduceProd": torch.prod,
}  # fmt: skip
BEFORE = {"ReduceSumSquare": torch.square, "ReduceL2": torch.square, "ReduceL1": torch.abs}
AFTER = {"ReduceL2": torch.sqrt, "ReduceLogSum": torch.log}


@rule(*REDUCTIONS)
def reduction(g: Graph, node: Node, x: Value, axes: Value | None = None) -> Any:
    given = told(node, "axes", axes)
    if not given and node.get("noop_with_empty_axes"):
        return Turned(x.held, x.order)
    over = sorted(axis_of(x, axis) for axis in given) if given else list(range(x.ndim))
    if not x.known:
        mixes_images(x, over, node.kind)
    places, keep = tuple(sorted(x.axis(axis) for axis in over)), bool(node.get("keepdims", 1))
    held = g.call(BEFORE[node.kind], x.held) if node.kind in BEFORE else x.held
    if node.kind == "ReduceProd":
        for place in reversed(places):
            held = g.call(torch.prod, held, place, keepdim=keep)
    else:
        held = g.call(REDUCTIONS[node.kind], held, places, **({"keepdim": True} if keep else {}))
    held = g.call(AFTER[node.kind], held) if node.kind in AFTER else held
    if keep:
        return Turned(held, x.order)
    left = [axis for axis in x.order if axis not in over]
    return Turned(held, tuple(sorted(left).index(axis) for axis in left))


@rule("ArgMax", "ArgMin")
def largest(g: Graph, node: Node, x: Value) -> Any:
    axis = axis_of(x, node.get("axis", 0))
    mixes_images(x, [axis], node.kind)
    if node.get("select_last_index"):
        raise ImportFailed("the last of equal places has no rule")
    function = torch.argmax if node.kind == "ArgMax" else torch.argmin
    return g.call(function, g.plain(x), axis, bool(node.get("keepdims", 1)))


@rule("CumSum")
def running_sum(g: Graph, node: Node, x: Value, axis: Value) -> Turned:
    (place,) = numbers(axis)
    place = axis_of(x, place)
    mixes_images(x, [place], node.kind)
    if node.get("exclusive"):
        raise ImportFailed("a running sum without the number itself has no rule")
    at, held = x.axis(place), x.held
    held = g.call(torch.flip, held, (at,)) if node.get("reverse") else held
    held = g.call(torch.cumsum, held, at)
    return Turned(g.call(torch.flip, held, (at,)) if node.get("reverse") else held, x.order)


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
