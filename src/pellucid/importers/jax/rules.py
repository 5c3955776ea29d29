"""JAX's primitives in torch: arithmetic and shapes (reductions: reduction_rules.py; convolutions, products of matrices,
windows, gather: linear_rules.py).

To add a primitive that torch has as a function of each number, or as a reduction, write one row of the tables in
graph/elementwise.py or graph/reductions.py. Any other has a rule here: a function of the graph, the equation (its
parameters, and the shapes and dtypes of its outputs) and a `Value` for each input. It returns what torch holds with
its axes as in JAX, or `Permuted` where they are in another order, or a list of those for several outputs. See
`integer_pow` for a short one.
"""

# ruff: noqa: ARG001 - all rules have one signature

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..graph.batch_dims import check_batch_axis
from ..graph.elementwise import applied, broadcast, cast, elementwise, extreme, named
from ..graph.graph import BatchDim, Dim, Graph, ImagesMixed, ImportFailed, Permuted, Value
from ..graph.rules import Rules
from ..graph.shapes import concatenated, cut, dilated, flipped, stacked, updated, with_padding, without_batch
from .jaxpr import Equation

RULES = Rules()
rule = RULES.rule
RULES.update({name: elementwise(function) for name, function in named("jax").items()})


# Functions of each number.


@rule("div")
def div(g: Graph, e: Equation, a: Value, b: Value) -> Permuted:
    (x, y), order = g.aligned((a, b))
    how = {} if e.dtypes[0].kind in "fV" else {"rounding_mode": "trunc"}
    return Permuted(g.call(torch.div, x, y, **how), order)


@rule("max", "min")
def max_or_min(g: Graph, e: Equation, a: Value, b: Value) -> Value:
    return extreme(g, e.name == "max", a, b)


@rule("clamp")
def clamp(g: Graph, e: Equation, low: Value, x: Value, high: Value) -> Value:
    return broadcast(g, torch.clamp, x, low, high)


@rule("integer_pow")
def integer_pow(g: Graph, e: Equation, x: Value) -> Value:
    power = e.params["y"]
    return applied(g, torch.square, x) if power == 2 else applied(g, torch.pow, x, power)


@rule("cbrt")
def cbrt(g: Graph, e: Equation, x: Value) -> Permuted:
    root = g.call(torch.pow, g.call(torch.abs, x.held), 1 / 3)
    return Permuted(g.call(torch.mul, root, g.call(torch.sign, x.held)), x.order)


@rule("round")
def round_(g: Graph, e: Equation, x: Value) -> Value | Permuted:
    if int(e.params["rounding_method"]) == 1:  # to even, as torch does
        return applied(g, torch.round, x)
    away = g.call(torch.floor, g.call(torch.add, g.call(torch.abs, x.held), 0.5))
    return Permuted(g.call(torch.mul, away, g.call(torch.sign, x.held)), x.order)


@rule("select_n")
def select_n(g: Graph, e: Equation, which: Value, *cases: Value) -> Any:
    if isinstance(which.held, Tensor):
        chosen = which.held.unique().tolist()
        if len(chosen) == 1:
            return _with_rank(g, cases[int(chosen[0])], len(e.shapes[0]))
    if len(cases) != 2:
        raise ImportFailed(f"select_n among {len(cases)} cases has no rule, it has one for two")
    (condition, no, yes), order = g.aligned((which, *cases))
    if e.takes[0].kind != "b":  # the number of a case
        condition = g.call(Tensor.to, condition, torch.bool)
    return Permuted(g.call(torch.where, condition, yes, no), order)


def _with_rank(g: Graph, x: Value, rank: int) -> Any:
    """A number in the place of an array."""
    return x if x.ndim == rank else g.call(Tensor.reshape, x.held, (1,) * rank)


@rule("convert_element_type")
def convert(g: Graph, e: Equation, x: Value) -> Value:
    dtype = {"b": torch.bool, "f": g.dtype, "V": g.dtype}.get(e.dtypes[0].kind, torch.int64)
    return cast(g, x, dtype, e.takes[0].kind in "fV")


@rule("copy", "copy_p", "reduce_precision", "sharding_constraint", "name", "pvary", "mesh_cast", "layout_constraint")
def same(g: Graph, e: Equation, x: Value) -> Value:
    return x


@rule("optimization_barrier", "device_put")
def all_same(g: Graph, e: Equation, *values: Value) -> list[Value]:
    return list(values)


# Shapes.


@rule("transpose")
def transpose(g: Graph, e: Equation, x: Value) -> Value:
    return x.transposed(e.params["permutation"])


@rule("reshape")
def reshape(g: Graph, e: Equation, x: Value) -> Any:
    if x.shape == e.shapes[0]:
        return x
    if e.params.get("dimensions") is not None:
        raise ImportFailed("reshape with another order of dimensions has no rule")
    return moved_ones(g, e, x) or g.reshaped(g.plain(x), e.shapes[0])


@rule("squeeze")
def squeeze(g: Graph, e: Equation, x: Value) -> Any:
    return moved_ones(g, e, x) or g.reshaped(g.plain(x), e.shapes[0])


def moved_ones(g: Graph, e: Equation, x: Value) -> Permuted | None:
    """A reshape that only adds or drops axes of length 1 leaves the others in their order."""
    before = [axis for axis in range(x.ndim) if x.shape[axis] != 1]
    after = [axis for axis in range(len(e.shapes[0])) if e.shapes[0][axis] != 1]
    if [x.shape[a] for a in before] != [e.shapes[0][a] for a in after] or x.order == tuple(range(x.ndim)):
        return None
    place = dict(zip(before, after, strict=True))
    order = [place[axis] for axis in x.order if axis in place]
    order += [axis for axis in range(len(e.shapes[0])) if e.shapes[0][axis] == 1]
    return Permuted(g.reshaped(x.held, tuple(e.shapes[0][axis] for axis in order)), tuple(order))


@rule("broadcast_in_dim")
def broadcast_in_dim(g: Graph, e: Equation, x: Value, *lengths: Value) -> Any:
    shape, axes = e.shapes[0], [int(axis) for axis in e.params["broadcast_dimensions"]]
    if len(axes) == len(shape) and x.shape == shape:
        return Permuted(x.held, tuple(axes[axis] for axis in x.order))
    wide: list[Dim] = [1] * len(shape)
    for axis, length in zip(axes, x.shape, strict=True):
        wide[axis] = length
    held = g.plain(x)
    if tuple(wide) != x.shape:
        held = g.reshaped(held, tuple(wide))
    if isinstance(held, Tensor):  # where it is the same for each image it is kept once
        return held.expand(without_batch(shape))
    if tuple(wide) == shape:
        return held
    grow = tuple(-1 if isinstance(w, BatchDim) or w == n else g.length(n) for w, n in zip(wide, shape, strict=True))
    return g.call(Tensor.expand, held, grow)


@rule("concatenate")
def concatenate(g: Graph, e: Equation, *values: Value) -> Value:
    return concatenated(g, values, e.params["dimension"])


@rule("stack")
def stack(g: Graph, e: Equation, *values: Value) -> Any:
    return stacked(g, values, e.params.get("axis", e.params.get("dimension", 0)))


@rule("tile")
def tile(g: Graph, e: Equation, x: Value) -> Any:
    times = e.params["reps"]
    check_batch_axis(x, [axis for axis, count in enumerate(times) if count != 1], e.name)
    if x.known and all(n == 1 for n, count in zip(x.shape, times, strict=True) if isinstance(count, BatchDim)):
        once = tuple(
            1 if isinstance(count, BatchDim) else count for count in times
        )  # the same for each image: kept once
        return g.call(Tensor.repeat, g.plain(x), once)
    return g.call(Tensor.repeat, g.plain(x), tuple(map(g.length, times)))


@rule("split")
def split(g: Graph, e: Equation, x: Value) -> list[Permuted]:
    axis, start, parts = e.params["axis"], 0, []
    for length in e.params["sizes"]:
        parts.append(Permuted(_cut(g, x, axis, start, start + length, 1), x.order))
        start += length
    return parts


@rule("slice")
def slice_(g: Graph, e: Equation, x: Value) -> Permuted:
    strides = e.params["strides"] or (1,) * x.ndim
    held = x.held
    for axis, (start, stop, stride) in enumerate(
        zip(e.params["start_indices"], e.params["limit_indices"], strides, strict=True)
    ):
        if (start, stop, stride) != (0, x.shape[axis], 1):
            held = _cut(g, Value(held, x.shape, x.order), axis, start, stop, stride)
    return Permuted(held, x.order)


@rule("dynamic_slice")
def dynamic_slice(g: Graph, e: Equation, x: Value, *starts: Value) -> Permuted:
    held = x.held
    for axis, (start, length) in enumerate(zip(starts, e.params["slice_sizes"], strict=True)):
        if length != x.shape[axis]:
            whole = x.shape[axis]
            at = max(_index(start, e), 0)
            at = at if isinstance(whole, BatchDim) else min(at, whole - length)  # JAX moves a slice into the array
            held = _cut(g, Value(held, x.shape, x.order), axis, at, at + length, 1)
    return Permuted(held, x.order)


@rule("dynamic_update_slice")
def dynamic_update_slice(g: Graph, e: Equation, x: Value, update: Value, *starts: Value) -> Any:
    places: list[tuple[int, int | None]] = []
    for start, length, part in zip(starts, x.shape, update.shape, strict=True):
        if part != length:
            assert isinstance(length, int) and isinstance(part, int)
            at = min(max(_index(start, e), 0), length - part)
            places.append((at, at + part))
        else:
            places.append((0, None))
    return g.call(updated, g.plain(g.expanded(x)), g.plain(g.expanded(update)), tuple(places))


def _index(value: Value, e: Equation) -> int:
    number = value.number()
    if number is None:
        raise ImportFailed(f"{e.name} at a place that depends on the images has no rule")
    return int(number)


def _cut(g: Graph, x: Value, axis: int, start: Any, stop: Any, stride: int) -> Any:
    if x.known and isinstance(x.shape[axis], BatchDim):
        return x.held
    if isinstance(x.shape[axis], BatchDim):
        raise ImagesMixed("a slice takes a part of the images: each must be computed by itself")
    stop = None if stop == x.shape[axis] else stop
    return cut(g, x, axis, slice(start, stop, stride))


@rule("rev")
def rev(g: Graph, e: Equation, x: Value) -> Value:
    return flipped(g, x, e.params["dimensions"], e.name)


@rule("pad")
def pad(g: Graph, e: Equation, x: Value, value: Value) -> Value:
    number = value.number()
    if number is None:
        raise ImportFailed("pad with a number that depends on the images has no rule")
    x = g.expanded(x)
    held = x.held
    for axis, (_, _, inner) in enumerate(e.params["padding_config"]):
        if inner:
            held = g.call(dilated, held, x.axis(axis), inner, number)
    return with_padding(g, Value(held, x.shape, x.order), [pair[:2] for pair in e.params["padding_config"]], number)


@rule("iota")
def iota(g: Graph, e: Equation, *lengths: Value) -> Any:
    axis, shape = e.params["dimension"], e.shapes[0]
    if isinstance(shape[axis], BatchDim):
        raise ImagesMixed("the function numbers the images of a batch: each must be computed by itself")
    dtype = g.dtype if e.dtypes[0].kind in "fV" else torch.int64
    places = torch.arange(shape[axis], dtype=dtype)
    places = places.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return places.expand(without_batch(shape))
