"""The nodes that stand in the autograd graph where a rule replaces the ordinary backward."""

# ruff: noqa: ARG004 - what autograd hands over

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...rules import Function, Linear, Pulled, Rule
from ...rules.linear_maps import Map
from .assign import Place


class Kept:
    """A value that a rule will need: what is written in place meanwhile must not change it."""

    __slots__ = ("output", "rectified", "used", "value", "version")

    def __init__(self, value: Tensor, output: bool) -> None:
        self.value = value.detach()
        self.version = value._version
        self.output = output
        self.rectified = False
        self.used = False

    def copy(self) -> None:
        self.value = self.value.clone()
        self.version = self.value._version

    def get(self) -> Tensor:
        if self.value._version != self.version and not self.rectified:
            raise RuntimeError("a value that a rule needs was overwritten out of sight of the rules")
        return self.value


@dataclass(eq=False)
class LinearCall:
    """What is remembered of a linear map until the backward: y = map(x; w) + b.

    weights: w and b, made when they are needed. free: a batch norm behind it may still be joined to it.
    rule: looks the rule up, once all calls are counted. source: x with its graph. nonnegative: whether x is.
    shadows: bounds and unit of x, as for `Linear`.
    """

    map: Map
    weights: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    place: Place
    rule: Callable[[Place], Rule | None]
    source: Tensor
    x: Kept
    nonnegative: bool
    shadows: tuple[Tensor | None, Tensor | None, Tensor | None]
    free: bool = True
    y: Kept | None = None

    def unchanged(self) -> bool:
        """Whether the tensor that the map took is still what it was, so that another map can take it."""
        return self.x.value._version == self.x.version and self.source._version == self.x.version


class LinearNode(torch.autograd.Function):
    """A linear map; its backward is that of its rule."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        low: Tensor | None,
        high: Tensor | None,
        unit: Tensor | None,
        call: LinearCall,
        compute: Callable[[], Tensor],
    ) -> Tensor:
        y = _own(compute())
        ctx.call = call
        call.y = Kept(y, output=True)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        call: LinearCall = ctx.call
        assert call.y is not None
        x = call.x.get()
        w, b = call.weights(x)
        low, high, unit = (None if shadow is None else shadow.detach() for shadow in call.shadows)
        rule = call.rule(call.place)
        if rule is None or rule.on != "map":
            return call.map.back(g, w, x), None, None, None, None, None
        pulled = rule.pull(Linear(call.map, x, w, b, call.y.get(), call.nonnegative, not call.free, low, high, unit), g)
        if not isinstance(pulled, Pulled):
            pulled = Pulled(pulled)
        return pulled.x, pulled.low, pulled.high, pulled.unit, None, None


class FunctionNode(torch.autograd.Function):
    """y = f(x), perhaps in place; its backward is that of its rule."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, f: Callable[[Tensor], Tensor], in_place: bool, rule: Rule, keep: list[Kept], marks: Any
    ) -> Tensor:
        ctx.x = Kept(x.clone() if in_place else x, output=False)
        y = f(x)
        if in_place:
            ctx.mark_dirty(x)
            y = x
        else:
            y = _own(y)
        ctx.y = Kept(y, output=False)
        ctx.f, ctx.rule, ctx.marks, ctx.in_place = f, rule, marks, in_place
        keep += [ctx.y] if in_place else [ctx.x, ctx.y]
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        def f(x: Tensor) -> Tensor:
            out: Tensor = ctx.f(x.clone() if ctx.in_place else x)
            return out

        call = Function(ctx.x.get(), ctx.y.get(), f)
        return ctx.rule.pull(call, g), None, None, None, None, None


def _own(y: Tensor) -> Tensor:
    """y as no view of anything: autograd forbids writing into a view that a custom function gives."""
    return y.data if y._is_view() else y


class StopNode(torch.autograd.Function):
    """A value that counts as a constant, and is known to be no weight: nothing goes back through it.

    Take `stopped(value)`.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, _leaf: Tensor) -> Tensor:
        return _own(value)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[None, None]:
        return None, None


def stopped(value: Tensor) -> Tensor:
    """The value as a constant of the pass that is no weight of the network."""
    out: Tensor = StopNode.apply(value.detach(), torch.zeros((), requires_grad=True))
    return out


class Instead(torch.autograd.Function):
    """The value of one tensor with the gradient of another."""

    @staticmethod
    def forward(ctx: Any, straight: Tensor, value: Callable[[], Tensor]) -> Tensor:
        return _own(value())

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return g, None
