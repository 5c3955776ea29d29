"""Steps up a loss within a budget, and random starts in it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..attack.budgets import Norm, broadcast, lengths, project, project_l1_box, step_bounds, unit
from ..attack.case import Case
from ..attack.losses import LossFunction

SPARSE = 0.01  # the share of an image's values that one l1 step moves
Move = Callable[[Tensor, Tensor, Tensor], Tensor]


def ascend(
    case: Case,
    x: Tensor,
    move: Move,
    loss: LossFunction,
    steps: int,
    *,
    momentum: float = 0.0,
    early_stop: bool = False,
    share: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Steps up a loss: the images found, and whether each fools the network.

    Args:
        case: what is attacked. x: n x C x H x W, where to begin.
        move: from the images, the gradients and the places (which images of the case these are) to the next images.
        share: of the whole attack's work, for the progress bar.
    """
    n = len(case)
    kept, hit = x, torch.zeros(n, dtype=torch.bool, device=x.device)
    places, part, velocity = torch.arange(n, device=x.device), case, torch.zeros(())
    for _ in case.steps(steps, share):
        if not len(places):
            continue
        slope, outputs, _ = part.gradient(x, loss)
        fooled = part.fooled(outputs)
        if fooled.any():
            kept = kept.index_copy(0, places[fooled], x[fooled])
            hit[places[fooled]] = True
            if early_stop:
                x, slope, places = x[~fooled], slope[~fooled], places[~fooled]
                velocity = velocity[~fooled] if velocity.ndim else velocity
                part = case.part(places)
                if not len(places):
                    continue
        if momentum:
            velocity = slope = momentum * velocity + slope / broadcast(lengths(slope, "l1").clamp(min=1e-12), slope)
        x = move(x, slope, places)
    if not len(places):
        return kept, hit
    fooled = part.fooled(part.outputs(x))
    new = fooled | ~hit[places]
    if len(places) == n and bool(new.all()):
        return x, fooled
    hit[places] |= fooled
    return kept.index_copy(0, places[new], x[new]), hit


def mover(case: Case, eps: float, norm: Norm, size: float) -> Move:
    """One step of a length along the gradient, brought back into the budget and the bounds."""
    origin, low, high = case.images, case.low, case.high
    if norm == "linf":
        lowest, highest = step_bounds(origin, eps, low, high)

        def linf(x: Tensor, slope: Tensor, places: Tensor) -> Tensor:
            down, up = (lowest, highest) if len(places) == len(origin) else (lowest[places], highest[places])
            return torch.minimum(torch.maximum(x + size * slope.sign(), down), up)

        return linf

    def l2(x: Tensor, slope: Tensor, places: Tensor) -> Tensor:
        near = origin[places]
        return (near + project(x + size * unit(slope, "l2") - near, eps, "l2")).clamp(low, high)

    def l1(x: Tensor, slope: Tensor, places: Tensor) -> Tensor:
        near = origin[places]
        change = x + size * sparse(slope, x, low, high) - near
        return near + project_l1_box(change, near, eps, low, high)

    return l2 if norm == "l2" else l1


def sparse(slope: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """The signs of the steepest hundredth of the values that can move, scaled to sizes that sum to 1."""
    stuck = ((x <= low) & (slope < 0)) | ((x >= high) & (slope > 0))
    sizes = slope.abs().masked_fill(stuck, 0).flatten(1)
    count = max(1, math.ceil(SPARSE * sizes.shape[1]))
    places = sizes.topk(count, 1).indices
    chosen = torch.zeros_like(sizes).scatter_(1, places, 1.0).view_as(slope) * slope.sign() * ~stuck
    return chosen / broadcast(lengths(chosen, "l1").clamp(min=1), chosen)


def random_in(case: Case, eps: float, norm: Norm, stream: int) -> Tensor:
    """Images drawn from the ball, and clipped to the bounds; the same change for every image.

    Uniform in linf and l2; in l1, a Laplace direction of uniform length.
    """
    source, shape = case.generator(stream), case.images.shape[1:]
    if norm == "linf":
        change = eps * (2 * torch.rand(shape, generator=source, dtype=torch.float64) - 1)
    elif norm == "l2":
        change = torch.randn(shape, generator=source, dtype=torch.float64)
        change *= eps * float(torch.rand((), generator=source, dtype=torch.float64)) ** (1 / change.numel())
        change /= lengths(change.flatten()[None], "l2")
    else:
        change = torch.rand(shape, generator=source, dtype=torch.float64) - 0.5
        change = change.sign() * (1 - 2 * change.abs()).clamp(min=1e-300).log().abs()
        change *= eps * float(torch.rand((), generator=source, dtype=torch.float64)) / lengths(change[None], "l1")
    return (case.images + change.to(case.images)).clamp(case.low, case.high)
