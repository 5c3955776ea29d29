"""JAX's primitives in torch: reductions, running sums, sorting."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..graph.batch_dims import check_batch_axis
from ..graph.elementwise import named
from ..graph.graph import Graph, ImportFailed, Value
from ..graph.reductions import CUMULATIVE, REDUCTIONS, cumulative, place_of_extreme, reduced
from .jaxpr import Equation
from .rules import rule

REDUCE, RUNNING = named("jax", REDUCTIONS), named("jax", CUMULATIVE)


@rule(*REDUCE)
def reduce(g: Graph, e: Equation, x: Value) -> Value:
    return reduced(g, REDUCE[e.name], x, [int(axis) for axis in e.params["axes"]], keep=False, name=e.name)


@rule("argmax", "argmin")
def argmax(g: Graph, e: Equation, x: Value) -> Any:
    (axis,) = e.params["axes"]
    return place_of_extreme(g, e.name == "argmax", x, axis, name=e.name)


@rule(*RUNNING)
def running(g: Graph, e: Equation, x: Value) -> Value:
    return cumulative(g, RUNNING[e.name], x, e.params["axis"], reverse=e.params["reverse"], name=e.name)


@rule("sort")
def sort(g: Graph, e: Equation, x: Value, *more: Value) -> Any:
    if more:
        raise ImportFailed("sort of several arrays by the first has no rule")
    check_batch_axis(x, [e.params["dimension"]], e.name)
    return g.call(_sorted, g.plain(x), e.params["dimension"])


def _sorted(x: Tensor, axis: int) -> Tensor:
    return x.sort(axis).values
