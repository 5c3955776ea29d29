"""What a backward rule is: a value with a name and numbers, and how it sends a gradient back."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .linear_maps import Map

KINDS = {
    "conv": "convolutions of 1 to 3 dimensions, also transposed, with the batch norm behind them",
    "linear": "dense layers and matrix products with weights, with the batch norm behind them",
    "norm": "batch norm that stands alone; layer, group, instance and RMS norm",
    "activation": "ReLU and all other functions of one number",
    "softmax": "softmax, also that of an attention",
    "product": "products of two tensors that both depend on the image, also those of an attention",
    "sum": "sums of two tensors that both depend on the image",
    "average": "average pooling and means",
    "max": "max pooling",
}


class RuleError(RuntimeError):
    """A network does something that rules cannot be applied to; the message says what and where."""


@dataclass(frozen=True)
class Rule:
    """How the backward of some functions is replaced; made by the functions of `pellucid.rules`.

    name, options: what made it. kinds: which kinds of functions it is for. pull: what is done in the backward.
    on: what pull takes: "map" a `Linear` and a gradient, "function" a `Function` and a gradient, "output" the
        gradient and the output, "gradient" the gradient alone. Of the last two the ordinary backward follows.
        "nothing" leaves the ordinary backward, "stop" ends it.
    """

    name: str
    options: tuple[tuple[str, Any], ...]
    kinds: frozenset[str] = field(compare=False, repr=False)
    pull: Callable[..., Any] = field(compare=False, repr=False)
    on: str = field(compare=False, repr=False, default="map")
    text: str = field(compare=False, repr=False, default="")

    def __repr__(self) -> str:
        return self.text


def rule(*kinds: str, on: str = "map") -> Callable[[Callable[..., Callable[..., Any]]], Callable[..., Rule]]:
    """Make a rule of a function from numbers to what is done in the backward.

    The rule prints as the call that made it, without options that have their default.

    Args:
        kinds: which kinds of functions it is for, of `KINDS`.
        on: what it takes in the backward, as for `Rule`.
    """

    def decorate(make: Callable[..., Callable[..., Any]]) -> Callable[..., Rule]:
        signature = inspect.signature(make)

        @functools.wraps(make)
        def build(*args: Any, **given: Any) -> Rule:
            args = tuple(map(_fixed, args))
            given = {name: _fixed(value) for name, value in given.items()}
            pull = make(*args, **given)
            bound = signature.bind(*args, **given)
            bound.apply_defaults()
            shown: list[str] = []
            for place, (name, value) in enumerate(bound.arguments.items()):
                if value is not signature.parameters[name].default and value != signature.parameters[name].default:
                    text = f"{value:g}" if isinstance(value, float) else repr(value)
                    shown.append(text if place == len(shown) else f"{name}={text}")
            text = f"{make.__name__}({', '.join(shown)})"
            return Rule(make.__name__, tuple(bound.arguments.items()), frozenset(kinds), pull, on, text)

        return build

    return decorate


def _fixed(value: Any) -> Any:
    """An option as what can be compared and hashed."""
    value = value.tolist() if isinstance(value, Tensor) else value
    return tuple(map(_fixed, value)) if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True, eq=False)
class Linear:
    """One call of a linear map, as a rule sees it in the backward.

    What flows back is g = relevance / activation, so that the relevance of the output is g y, that of the input
    x times what a rule gives.

    map, x, w, b, y: y = map(x; w) + b. nonnegative: x is known to have no negative values.
    fresh: w was made for this call and may be overwritten.
    low, high: bounds of x, where x is the image or made of it by reshaping and the like; else None.
    unit: where x is the image, a tensor of ones that took the same way.
    """

    map: Map
    x: Tensor
    w: Tensor
    b: Tensor | None
    y: Tensor
    nonnegative: bool
    fresh: bool = False
    low: Tensor | None = None
    high: Tensor | None = None
    unit: Tensor | None = None

    def total(self, bias: bool) -> Tensor:
        """The sum over inputs: y, or y without the bias."""
        return self.y if bias or self.b is None else self.y - self.map.spread(self.b)

    def positive_bias(self, bias: bool) -> Tensor | None:
        return self.b.clamp(min=0) if bias and self.b is not None else None

    @functools.cached_property
    def magnitudes(self) -> Tensor:
        """|w|, which rules for signed inputs need twice."""
        return self.w.abs()

    def upper(self) -> Tensor:
        """The positive part of w, which is not needed any more."""
        return self.w.clamp_(min=0) if self.fresh else self.w.clamp(min=0)

    def forward(self, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return self.map.forward(x, w, b)

    def back(self, g: Tensor, w: Tensor) -> Tensor:
        return self.map.back(g, w, self.x)


@dataclass(frozen=True, eq=False)
class Function:
    """One call of a function y = f(x), as a rule sees it in the backward.

    x, y: input and output. f: the function, for its derivative.
    """

    x: Tensor
    y: Tensor
    f: Callable[[Tensor], Tensor]

    def derivative(self, g: Tensor) -> Tensor:
        """The ordinary gradient of sum(g f(x))."""
        with torch.enable_grad():
            x = self.x.detach().requires_grad_()
            return torch.autograd.grad(self.f(x), x, g)[0]


class Pulled(NamedTuple):
    """What a rule gives that sends relevance to bounds or to places, not to values."""

    x: Tensor | None = None
    low: Tensor | None = None
    high: Tensor | None = None
    unit: Tensor | None = None


def stabilizer(z: Tensor, eps: float | None, *, exact: bool = False) -> Tensor | float:
    """What z is moved away from zero by: eps, of a shape that broadcasts.

    An absolute eps takes all relevance in a layer whose values are as small as it is. So where it is more than a
    ten-thousandth of the root mean square of z (over all but the first axis), it is a millionth of that instead.

    Args:
        eps: None is 1e-6.
        exact: take a given eps as it is.
    """
    if exact and eps is not None:
        return eps
    eps = 1e-6 if eps is None else eps
    axes = tuple(range(1, z.ndim)) or (0,)
    count = z.numel() // max(1, len(z)) if z.ndim > 1 else z.numel()
    wide = torch.promote_types(z.dtype, torch.float32)
    scale = torch.linalg.vector_norm(z, dim=axes, keepdim=True, dtype=wide) / max(1, count) ** 0.5
    least = 1e-4 if z.dtype == torch.float16 else 1e-19
    return torch.where(scale * 1e-4 < eps, scale * 1e-6, eps).clamp(min=least).to(z.dtype)


def ratio(a: Tensor, z: Tensor, eps: float | None, *, exact: bool = False) -> Tensor:
    """a / z, z moved away from zero by eps; 0/0 is 0."""
    if eps == 0 and exact:
        return torch.where(z == 0, 0, a / torch.where(z == 0, 1, z))
    away = stabilizer(z, eps, exact=exact)
    away = torch.copysign(z.new_tensor(away) if isinstance(away, float) else away, z).add_(z)
    return torch.div(a, away, out=away) if a.shape == away.shape else a / away


def damped(g: Tensor, y: Tensor, eps: float | None) -> Tensor:
    """g y / (y + eps sign(y)), a given eps taken as it is."""
    if eps == 0:
        return torch.where(y == 0, 0, g)
    return ratio(y, y, eps, exact=True).mul_(g)


def shared(g: Tensor, y: Tensor, z: Tensor, eps: float) -> Tensor:
    """g y / z for z of zero or above, stabilized; z is overwritten, which saves the time that new memory takes."""
    z.add_(stabilizer(z, eps))
    return torch.div(y, z, out=z).mul_(g)
