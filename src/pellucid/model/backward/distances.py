"""Squared distances and soft minima: relevance goes to the nearest points, and from those to the dimensions."""

# ruff: noqa: ARG001 - the signatures are those of torch

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...rules import Function, Linear, Pulled, Rule
from ...rules.linear_maps import Bilinear
from ...rules.rule import ratio
from .assign import Place
from .nodes import Kept, LinearCall
from .soft_minimum import by_dimension
from .watch import Watch


def distances(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    """|x - u_i|^2: dimension d takes (x_d - u_id)^2 / |x - u_i|^2 of the relevance, whatever the value of x_d is."""
    x, centers = args
    if not watch.relevance or not watch.depends(x):
        return watch.acknowledge(func(x, centers))
    # Of a linear map it has all that a node needs: an input, what it is held against, and where relevance is put.
    call = LinearCall(
        Bilinear(func), lambda _x: (centers.detach(), None), Place("distance", 1, func, (), 1, False),
        lambda _place: BY_DIMENSION, x, Kept(x, output=False), False, watch.shadows_of(x),
    )  # fmt: skip
    return watch.linear(call, lambda: func(x, centers))


def soft_min(watch: Watch, func: Any, args: Any, kwargs: Any) -> Any:
    """The soft minimum: input i takes its share p_i of the relevance; an input of exactly 0 hands nothing on."""
    h, *rest = args
    if not watch.relevance or not watch.depends(h):
        return watch.acknowledge(func(*args))
    return watch.replace(h, lambda t: func(t, *rest), False, BY_SHARE)


def _by_dimension(call: Linear, g: Tensor) -> Pulled:
    parts = by_dimension(call.x, call.w, g)
    if call.unit is None:
        return Pulled(x=ratio(parts, call.x, 0, exact=True))
    return Pulled(unit=ratio(parts, call.unit, 0, exact=True))


def _by_share(call: Function, g: Tensor) -> Tensor:
    return ratio(call.derivative(g * call.y), call.x, 0, exact=True)


BY_DIMENSION = Rule("by_dimension", (), frozenset(), _by_dimension)
BY_SHARE = Rule("by_share", (), frozenset(), _by_share, "function")
