"""JAX's primitives in torch: reductions, running sums, sorting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..graph.graph import Graph, ImportFailed, Value
from ..graph.rule_parts import mixes_images
from .jaxpr import Equation
from .rules import rule

REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduce_sum": torch.sum,
    "reduce_max": torch.amax,
    "reduce_min": torch.amin,
    "reduce_and": torch.all,
    "reduce_or": torch.any,
    "reduce_prod": torch.prod,
}


@rule(*REDUCTIONS)
def reduce(g: Graph, e: Equation, x: Value) -> Any:
    axes = [int(axis) for axis in e.params["axes"]]
    if not axes:
        return x
    mixes_images(x, axes, e.name)
    order = tuple(axis for axis in x.order if axis not in axes)
    places = tuple(sorted(x.axis(axis) for axis in axes))
    left = sorted(order)
    order = tuple(left.index(axis) for axis in order)
    held = x.held
    if e.name in ("reduce_sum", "reduce_max", "reduce_min"):
        held = g.call(REDUCTIONS[e.name], held, places)
    else:
        for place in reversed(places):
            held = g.call(REDUCTIONS[e.name], held, place)
    return Value(held, e.shapes[0], order)


@rule("argmax", "argmin")
def argmax(g: Graph, e: Equation, x: Value) -> Any:
    (axis,) = e.params["axes"]
    mixes_images(x, [axis], e.name)
    return g.call(torch.argmax if e.name == "argmax" else torch.argmin, g.plain(x), axis)


CUMULATIVE: dict[str, Callable[..., Any]] = {
    "cumsum": torch.cumsum,
    "cumprod": torch.cumprod,
    "cumlogsumexp": torch.logcumsumexp,
}


@rule(*CUMULATIVE)
def cumulative(g: Graph, e: Equation, x: Value) -> Value:
    place = x.axis(e.params["axis"])
    mixes_images(x, [e.params["axis"]], e.name)
    held = g.call(torch.flip, x.held, (place,)) if e.params["reverse"] else x.held
    held = g.call(CUMULATIVE[e.name], held, place)
    held = g.call(torch.flip, held, (place,)) if e.params["reverse"] else held
    return Value(held, e.shapes[0], x.order)


@rule("sort")
def sort(g: Graph, e: Equation, x: Value, *more: Value) -> Any:
    if more:
        raise ImportFailed("sort of several arrays by the first has no rule")
    mixes_images(x, [e.params["dimension"]], e.name)
    return g.call(_sorted, g.plain(x), e.params["dimension"])


def _sorted(x: Tensor, axis: int) -> Tensor:
    return x.sort(axis).values
