"""Linear maps as rules see them: y = L(x; w) + b, for any x and any w of the same shapes, and the way back."""

# ruff: noqa: ARG002 - all maps are called alike

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class Map(Protocol):
    """A map that is linear in x and in w.

    forward(x, w, b): L(x; w) + b, b None for none. back(g, w, like): the x-gradient of sum(g L(x; w)), of the shape
    and layout of `like`. spread(b): one number per channel as it is added to an output. scaled(w, s): w with each
    output channel multiplied by s, so that L(x; scaled(w, s)) = spread(s) L(x; w). channels: the axis of x along which
    inputs may be put side by side, as along axis 1 of w: L([x, x']; [w, w']) = L(x; w) + L(x'; w'); None for none.
    """

    @property
    def channels(self) -> int | None: ...

    def forward(self, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor: ...
    def back(self, g: Tensor, w: Tensor, like: Tensor) -> Tensor: ...
    def spread(self, b: Tensor) -> Tensor: ...
    def scaled(self, w: Tensor, s: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Convolution:
    """A convolution in any number of dimensions, transposed or not, with symmetric zero padding."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    transposed: bool = False
    output_padding: tuple[int, ...] = (0,)

    @property
    def channels(self) -> int | None:
        return None if self.transposed or self.groups > 1 else -1 - len(self.stride)

    def forward(self, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        if x.ndim == len(self.stride) + 1:  # an image without a batch
            return self.forward(x[None], w, b)[0]
        return torch.convolution(
            x,
            w,
            b,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
        )

    def back(self, g: Tensor, w: Tensor, like: Tensor) -> Tensor:
        if like.ndim == len(self.stride) + 1:
            return self.back(g[None], w, like[None])[0]
        grads = torch.ops.aten.convolution_backward(
            g,
            g.new_empty(1).expand(like.shape),
            w,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
            (True, False, False),
        )
        found: Tensor = grads[0]
        return found

    def spread(self, b: Tensor) -> Tensor:
        return b.view(-1, *(1,) * len(self.stride))

    def scaled(self, w: Tensor, s: Tensor) -> Tensor:
        if not self.transposed:
            return w * s.view(-1, *(1,) * (w.ndim - 1))
        # in x out/groups x ...: the output channels of each group belong to its input channels
        per_group = s.view(self.groups, 1, -1, *(1,) * (w.ndim - 2))
        return (w.view(self.groups, -1, *w.shape[1:]) * per_group).view_as(w)


@dataclass(frozen=True)
class Dense:
    """y = x w', over the last axis of x."""

    channels: ClassVar[int | None] = -1

    def forward(self, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return F.linear(x.contiguous(), w, b)  # else torch makes many small products of it

    def back(self, g: Tensor, w: Tensor, like: Tensor) -> Tensor:
        return (g.reshape(-1, g.shape[-1]) @ w).view(*g.shape[:-1], -1)

    def spread(self, b: Tensor) -> Tensor:
        return b

    def scaled(self, w: Tensor, s: Tensor) -> Tensor:
        return w * s[:, None]


@dataclass(frozen=True)
class Scale:
    """y = x w, w of a shape that broadcasts: what a normalization with fixed statistics is."""

    channels: ClassVar[int | None] = None

    def forward(self, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return x * w if b is None else x * w + b

    def back(self, g: Tensor, w: Tensor, like: Tensor) -> Tensor:
        return g * w

    def spread(self, b: Tensor) -> Tensor:
        return b

    def scaled(self, w: Tensor, s: Tensor) -> Tensor:
        return w * s


@dataclass(frozen=True)
class Standardized:
    """y = (x - mean) w over groups of places, w holding 1 / standard deviation: a norm whose statistics are fixed.

    shape: of x with the groups as axes. axes: those that a mean is taken over. centered: whether it is subtracted.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    centered: bool = True
    channels: ClassVar[int | None] = None

    def forward(self, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        y = self._center(x) * w
        return y if b is None else y + b

    def back(self, g: Tensor, w: Tensor, like: Tensor) -> Tensor:
        return self._center(g * w)

    def spread(self, b: Tensor) -> Tensor:
        return b

    def scaled(self, w: Tensor, s: Tensor) -> Tensor:
        return w * s

    def deviations(self, x: Tensor, eps: float) -> Tensor:
        """1 / standard deviation at each place of x."""
        groups = x.reshape(self.shape)
        square = groups.var(self.axes, unbiased=False, keepdim=True) if self.centered else None
        square = groups.square().mean(self.axes, keepdim=True) if square is None else square
        return (square + eps).rsqrt().expand(self.shape).reshape(x.shape)

    def _center(self, x: Tensor) -> Tensor:
        if not self.centered:
            return x
        groups = x.reshape(self.shape)
        return (groups - groups.mean(self.axes, keepdim=True)).reshape(x.shape)


@dataclass(frozen=True)
class Bilinear:
    """Any function that is linear in x and in w (a matrix product, an einsum), by its own gradient."""

    function: Callable[[Tensor, Tensor], Tensor]
    channels: ClassVar[int | None] = None

    def forward(self, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        y = self.function(x, w)
        return y if b is None else y + b

    def back(self, g: Tensor, w: Tensor, like: Tensor) -> Tensor:
        with torch.enable_grad():
            x = torch.zeros_like(like).requires_grad_()
            return torch.autograd.grad(self.function(x, w), x, g)[0]

    def spread(self, b: Tensor) -> Tensor:
        return b

    def scaled(self, w: Tensor, s: Tensor) -> Tensor:
        raise NotImplementedError  # a batch norm is joined to convolutions and dense layers only
