"""JAX's primitives in torch, one small rule each: arithmetic and shapes.

A rule takes the graph, the equation, and a value for each input, and gives what torch holds, or a `Value` where the
axes are in another order than in JAX. To add one, write it here (reductions: jax_reductions.py; linear maps and
windows: jax_linear.py).
"""

# ruff: noqa: ARG001 - all rules have one signature

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..graph.graph import Graph, ImagesMixed, ImportFailed, Length, Size, Value
from ..graph.rule_parts import mixes_images, padded, spread, updated
from .jaxpr import Equation

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Make a function the rule of some primitives."""

    def put(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return put


# Functions of each number.


def elementwise(function: Callable[..., Tensor]) -> Rule:
    """The rule of a function that torch has too."""

    def of(g: Graph, e: Equation, *values: Value) -> Value:
        held, order = g.aligned(values)
        return Value(g.call(function, *held), e.shapes[0], order)

    return of


SAME: dict[str, Callable[..., Any]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "neg": torch.neg, "exp": torch.exp, "exp2": torch.exp2,
    "log": torch.log, "log1p": torch.log1p, "expm1": torch.expm1, "tanh": torch.tanh, "logistic": torch.sigmoid,
    "erf": torch.erf, "erfc": torch.erfc, "erf_inv": torch.erfinv, "lgamma": torch.lgamma, "digamma": torch.digamma,
    "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "square": torch.square, "abs": torch.abs, "sign": torch.sign,
    "sin": torch.sin, "cos": torch.cos, "tan": torch.tan, "asin": torch.asin, "acos": torch.acos, "atan": torch.atan,
    "sinh": torch.sinh, "cosh": torch.cosh, "asinh": torch.asinh, "acosh": torch.acosh, "atanh": torch.atanh,
    "atan2": torch.atan2, "floor": torch.floor, "ceil": torch.ceil, "pow": torch.pow, "rem": torch.fmod,
    "lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge, "eq": torch.eq, "ne": torch.ne,
    "is_finite": torch.isfinite, "and": torch.bitwise_and, "or": torch.bitwise_or, "xor": torch.bitwise_xor,
    "not": torch.bitwise_not, "stop_gradient": Tensor.detach,
}  # fmt: skip
RULES.update({name: elementwise(function) for name, function in SAME.items()})


@rule("div")
def div(g: Graph, e: Equation, a: Value, b: Value) -> Value:
    floating = e.dtypes[0].kind in "fV"
    (x, y), order = g.aligned((a, b))
    how = {} if floating else {"rounding_mode": "trunc"}
    return Value(g.call(torch.div, x, y, **how), e.shapes[0], order)


@rule("max", "min")
def extreme(g: Graph, e: Equation, a: Value, b: Value) -> Any:
    """With a number it is a clamp. A ReLU is known by its name, not by max(x, 0), which also guards variances."""
    upper = e.name == "max"
    for x, other in ((a, b), (b, a)):
        number = other.number()
        if number is None or x.known:
            continue
        if number == (-math.inf if upper else math.inf):
            return x
        clamped = g.call(torch.clamp, x.held, **{"min" if upper else "max": number})
        return Value(clamped, e.shapes[0], x.order)
    return elementwise(torch.maximum if upper else torch.minimum)(g, e, a, b)


@rule("clamp")
def clamp(g: Graph, e: Equation, low: Value, x: Value, high: Value) -> Value:
    (x_, *ends), order = g.aligned((x, low, high))
    return Value(g.call(torch.clamp, x_, *ends), e.shapes[0], order)


@rule("integer_pow")
def integer_pow(g: Graph, e: Equation, x: Value) -> Value:
    power = e.params["y"]
    function, more = (torch.square, ()) if power == 2 else (torch.pow, (power,))
    return Value(g.call(function, x.held, *more), e.shapes[0], x.order)


@rule("cbrt")
def cbrt(g: Graph, e: Equation, x: Value) -> Value:
    root = g.call(torch.pow, g.call(torch.abs, x.held), 1 / 3)
    return Value(g.call(torch.mul, root, g.call(torch.sign, x.held)), e.shapes[0], x.order)


@rule("round")
def round_(g: Graph, e: Equation, x: Value) -> Value:
    if int(e.params["rounding_method"]) == 1:  # to even, as torch does
        return Value(g.call(torch.round, x.held), e.shapes[0], x.order)
    away = g.call(torch.floor, g.call(torch.add, g.call(torch.abs, x.held), 0.5))
    return Value(g.call(torch.mul, away, g.call(torch.sign, x.held)), e.shapes[0], x.order)


@rule("select_n")
def select_n(g: Graph, e: Equation, which: Value, *cases: Value) -> Any:
    if isinstance(which.held, Tensor):
        chosen = which.held.unique().tolist()
        if len(chosen) == 1:
            return broadcast(g, e, cases[int(chosen[0])])
    if len(cases) != 2:
        raise ImportFailed(f"select_n among {len(cases)} cases has no rule, it has one for two")
    (condition, no, yes), order = g.aligned((which, *cases))
    if e.takes[0].kind != "b":  # the number of a case
        condition = g.call(Tensor.to, condition, torch.bool)
    return Value(g.call(torch.where, condition, yes, no), e.shapes[0], order)


def broadcast(g: Graph, e: Equation, x: Value) -> Value:
    """A value of the shape of the equation, where that is another one."""
    if x.shape == e.shapes[0] or x.ndim == len(e.shapes[0]):
        return x
    assert x.ndim == 0
    rank = len(e.shapes[0])
    return Value(g.call(Tensor.reshape, x.held, (1,) * rank), e.shapes[0], tuple(range(rank)))


@rule("convert_element_type")
def convert(g: Graph, e: Equation, x: Value) -> Value:
    kind = e.dtypes[0].kind
    dtype = {"b": torch.bool, "f": g.dtype, "V": g.dtype}.get(kind, torch.int64)
    if isinstance(x.held, Tensor):
        return Value(x.held.to(dtype), x.shape, x.order)
    if kind in "fV" and e.takes[0].kind in "fV":
        return x  # one kind of floating numbers throughout: the one of the weights
    return Value(g.call(Tensor.to, x.held, dtype), e.shapes[0], x.order)


@rule("copy", "copy_p", "reduce_precision", "sharding_constraint", "name", "pvary", "mesh_cast", "layout_constraint")
def same(g: Graph, e: Equation, x: Value) -> Value:
    return x


@rule("optimization_barrier", "device_put")
def all_same(g: Graph, e: Equation, *values: Value) -> list[Value]:
    return list(values)


# Shapes.


@rule("transpose")
def transpose(g: Graph, e: Equation, x: Value) -> Value:
    permutation = e.params["permutation"]
    return Value(x.held, e.shapes[0], tuple(permutation.index(axis) for axis in x.order))


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


def moved_ones(g: Graph, e: Equation, x: Value) -> Value | None:
    """A reshape that only adds or drops axes of length 1 leaves the others in their order."""
    before = [axis for axis in range(x.ndim) if x.shape[axis] != 1]
    after = [axis for axis in range(len(e.shapes[0])) if e.shapes[0][axis] != 1]
    if [x.shape[a] for a in before] != [e.shapes[0][a] for a in after] or x.order == tuple(range(x.ndim)):
        return None
    place = dict(zip(before, after, strict=True))
    order = [place[axis] for axis in x.order if axis in place]
    order += [axis for axis in range(len(e.shapes[0])) if e.shapes[0][axis] == 1]
    return Value(g.reshaped(x.held, tuple(e.shapes[0][axis] for axis in order)), e.shapes[0], tuple(order))


@rule("broadcast_in_dim")
def broadcast_in_dim(g: Graph, e: Equation, x: Value, *lengths: Value) -> Any:
    shape, axes = e.shapes[0], [int(axis) for axis in e.params["broadcast_dimensions"]]
    if len(axes) == len(shape) and x.shape == shape:
        return Value(x.held, shape, tuple(axes[axis] for axis in x.order))
    wide: list[Length] = [1] * len(shape)
    for axis, length in zip(axes, x.shape, strict=True):
        wide[axis] = length
    held = g.plain(x)
    if tuple(wide) != x.shape:
        held = g.reshaped(held, tuple(wide))
    if isinstance(held, Tensor):  # where it is the same for each image it is kept once
        return held.expand([1 if isinstance(n, Size) else n for n in shape])
    if tuple(wide) == shape:
        return held
    grow = tuple(-1 if isinstance(w, Size) or w == n else g.length(n) for w, n in zip(wide, shape, strict=True))
    return g.call(Tensor.expand, held, grow)


@rule("concatenate")
def concatenate(g: Graph, e: Equation, *values: Value) -> Value:
    values = tuple(map(g.expanded, values)) if any(not v.known for v in values) else values
    held, order = g.aligned(values)
    return Value(g.call(torch.cat, tuple(held), order.index(e.params["dimension"])), e.shapes[0], order)


@rule("stack")
def stack(g: Graph, e: Equation, *values: Value) -> Any:
    moving = any(not value.known for value in values)
    held = tuple(g.plain(g.expanded(value) if moving else value) for value in values)
    return g.call(torch.stack, held, e.params.get("axis", e.params.get("dimension", 0)))


@rule("tile")
def tile(g: Graph, e: Equation, x: Value) -> Any:
    times = e.params["reps"]
    mixes_images(x, [axis for axis, count in enumerate(times) if count != 1], e.name)
    if x.known and all(n == 1 for n, count in zip(x.shape, times, strict=True) if isinstance(count, Size)):
        once = tuple(1 if isinstance(count, Size) else count for count in times)  # the same for each image: kept once
        return g.call(Tensor.repeat, g.plain(x), once)
    return g.call(Tensor.repeat, g.plain(x), tuple(map(g.length, times)))


@rule("split")
def split(g: Graph, e: Equation, x: Value) -> list[Value]:
    axis, start, parts = e.params["axis"], 0, []
    for length, shape in zip(e.params["sizes"], e.shapes, strict=True):
        part = _cut(g, x, axis, start, start + length, 1)
        parts.append(Value(part, shape, x.order))
        start += length
    return parts


@rule("slice")
def slice_(g: Graph, e: Equation, x: Value) -> Value:
    strides = e.params["strides"] or (1,) * x.ndim
    held = x.held
    for axis, (start, stop, stride) in enumerate(
        zip(e.params["start_indices"], e.params["limit_indices"], strides, strict=True)
    ):
        if (start, stop, stride) != (0, x.shape[axis], 1):
            held = _cut(g, Value(held, x.shape, x.order), axis, start, stop, stride)
    return Value(held, e.shapes[0], x.order)


@rule("dynamic_slice")
def dynamic_slice(g: Graph, e: Equation, x: Value, *starts: Value) -> Value:
    held = x.held
    for axis, (start, length) in enumerate(zip(starts, e.params["slice_sizes"], strict=True)):
        if length != x.shape[axis]:
            whole = x.shape[axis]
            at = max(_index(start, e), 0)
            at = at if isinstance(whole, Size) else min(at, whole - length)  # JAX moves a slice into the array
            held = _cut(g, Value(held, x.shape, x.order), axis, at, at + length, 1)
    return Value(held, e.shapes[0], x.order)


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
    if x.known and isinstance(x.shape[axis], Size):
        return x.held
    if isinstance(x.shape[axis], Size):
        raise ImagesMixed("a slice takes a part of the images: each must be computed by itself")
    stop = None if stop == x.shape[axis] else stop
    place = x.axis(axis)
    return g.call(operator.getitem, x.held, (slice(None),) * place + (slice(start, stop, stride),))


@rule("rev")
def rev(g: Graph, e: Equation, x: Value) -> Value:
    mixes_images(x, e.params["dimensions"], e.name)
    axes = tuple(x.axis(axis) for axis in e.params["dimensions"])
    return Value(g.call(torch.flip, x.held, axes), e.shapes[0], x.order)


@rule("pad")
def pad(g: Graph, e: Equation, x: Value, value: Value) -> Value:
    number = value.number()
    if number is None:
        raise ImportFailed("pad with a number that depends on the images has no rule")
    x = g.expanded(x)
    held = x.held
    for axis, (_, _, inner) in enumerate(e.params["padding_config"]):
        if inner:
            held = g.call(spread, held, x.axis(axis), inner, number)
    ends = [e.params["padding_config"][axis][:2] for axis in x.order]
    return Value(padded(g, held, ends, number), e.shapes[0], x.order)


@rule("iota")
def iota(g: Graph, e: Equation, *lengths: Value) -> Any:
    axis, shape = e.params["dimension"], e.shapes[0]
    if isinstance(shape[axis], Size):
        raise ImagesMixed("the function numbers the images of a batch: each must be computed by itself")
    dtype = g.dtype if e.dtypes[0].kind in "fV" else torch.int64
    places = torch.arange(shape[axis], dtype=dtype)
    places = places.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return places.expand([1 if isinstance(n, Size) else n for n in shape])
