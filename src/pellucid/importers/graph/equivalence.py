"""Whether an imported network computes what its source computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .graph import Graph, ImportFailed, Step

HALF_PRECISION = 5e-2  # how far outputs may differ where a source computes in half precision, of the largest
Source = Callable[[Tensor], Tensor]
Values = Callable[[Tensor], dict[Any, Tensor]]


@dataclass(frozen=True)
class Exact:
    """The source network in float64, for COUNT images: it tells mistakes from rounding.

    source: gives it, from and to tensors in float64; None where it cannot be had. values: as for `finish`, in float64.
    limit: for its difference from the imported network. always: whether to look also where the difference from the
    source as it is lies within its own limit, which is wide for half precision.
    """

    source: Callable[[], Source | None]
    values: Values
    limit: float
    always: bool


def difference(net: Callable[[Tensor], Tensor], source: Source, batches: list[Tensor]) -> float:
    """The largest difference of outputs over the largest output, over some batches.

    Args:
        net: the imported network; takes N x C x H x W.
        source: the source network, taking and giving the same tensors.
        batches: of images.
    """
    worst = 0.0
    for images in batches:
        wanted = source(images).double()
        with torch.no_grad():
            got = net(images).double()
        if got.shape != wanted.shape:
            raise ImportFailed(f"the imported network gives {tuple(got.shape)}, the source {tuple(wanted.shape)}")
        if not bool(wanted.isfinite().all()):
            raise ImportFailed("the source network gives NaN or infinity for the example: check its weights")
        scale = wanted.abs().max().clamp(min=1e-6)
        worst = max(worst, float((got - wanted).abs().max() / scale))
        if not bool(got.isfinite().all()):
            return float("inf")
    return worst


def check_independent(source: Source, images: Tensor) -> None:
    """Refuse a source network that gives an image another output in a batch than alone, or when it is asked again.

    Args:
        source: from and to torch tensors.
        images: at least two, N x C x H x W.
    """
    two = images[:2]
    together, again, alone = source(two), source(two), torch.cat([source(two[:1]), source(two[1:])])
    if not torch.equal(together, again):
        raise ImportFailed(
            "it gives other outputs for the same images when it is asked again: it takes random numbers, as dropout "
            "does in training: import the network as it predicts (training=False, train=False, model.eval())"
        )
    if not torch.allclose(together, alone, rtol=1e-2, atol=1e-2 * float(alone.abs().max())):
        raise ImportFailed(
            "an image has another output in a batch than alone, as where a batch norm takes the statistics of the "
            "batch, or dropout is on: import the network as it predicts (training=False, train=False, model.eval())"
        )


def first_difference(g: Graph, images: Tensor, wanted: dict[Any, Tensor], tolerance: float) -> str:
    """In words, the first step whose value is not what the source has there.

    Args:
        g: the imported network.
        images: N x C x H x W.
        wanted: the source's values, by what is the origin of a step.
    """
    change = _double if images.dtype == torch.float64 else _same
    for step, value in g.values(images, change).items():
        if step.origin is None or step.function is None or not isinstance(value, Tensor):
            continue
        name, order = step.origin
        if name not in wanted or not value.is_floating_point():
            continue
        there = wanted[name].permute(order).double()
        scale = there.abs().max().clamp(min=1e-6)
        if there.shape != value.shape or not bool((value.double() - there).abs().max() <= tolerance * scale):
            return f"{_layer(step)}, at {getattr(step.function, '__name__', step.function)}"
    return "no single layer, but all together"


def _double(constant: Tensor) -> Tensor:
    return constant.double() if constant.is_floating_point() else constant


def _same(constant: Tensor) -> Tensor:
    return constant


def _layer(step: Step) -> str:
    return f"layer {'.'.join(step.scope)!r}" if step.scope else "what lies outside of all layers"
