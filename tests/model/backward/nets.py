"""Networks as one-liners, and what the tests ask of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pellucid import rules, run
from pellucid.model.relevance import relevance


class Net(nn.Module):
    """A network whose forward is a function of itself and the image; weights in float64, evaluation mode."""

    def __init__(self, forward: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(part) if isinstance(part, Tensor) else part)
        self.body = forward
        self.double().eval()

    def forward(self, x: Tensor) -> Any:
        return self.body(self, x)


def image(*shape: int, seed: int = 0, signed: bool = False) -> Tensor:
    """Numbers in [0, 1], or normal ones."""
    make = torch.Generator().manual_seed(seed)
    return (torch.randn if signed else torch.rand)(*shape, generator=make, dtype=torch.float64)


class Whole:
    """The objective sum(weights x output): the relevance that starts at an output is weight x output."""

    reads: frozenset[str] = frozenset()
    needs_output = True

    def __init__(self, weights: Tensor | float = 1.0) -> None:
        self.weights = weights

    def __call__(self, trace: Any) -> Tensor:
        return (trace.output * self.weights).flatten(1).sum(1)


def shares(net: nn.Module, x: Tensor, given: Any, weights: Tensor | float = 1.0, **options: Any) -> Tensor:
    """The relevance of each pixel for the sum of all outputs; the forward must be what it is without rules."""
    found, _, trace = relevance(net, x, Whole(weights), given, **options)
    plain = net(x.clone())
    assert torch.equal(trace.output, plain), (trace.output - plain).abs().max()
    return found


def plain(net: nn.Module, x: Tensor, weights: Tensor | float = 1.0) -> Tensor:
    """Input x gradient by autograd alone."""
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad((net(x.clone()) * weights).sum(), x)
    return (x * slope).detach()


def close(a: Tensor, b: Tensor, tolerance: float = 1e-9) -> None:
    """Equal up to rounding, measured at the largest number."""
    assert a.shape == b.shape
    assert (a - b).abs().max() <= tolerance * max(b.abs().max().item(), 1e-30), (a - b).abs().max() / b.abs().max()


EXACT = {**rules.LRP_ZERO}
"""BASE without stabilizers, and LRP-0 for the rest."""


__all__ = ["EXACT", "Net", "Whole", "close", "image", "plain", "run", "shares"]
