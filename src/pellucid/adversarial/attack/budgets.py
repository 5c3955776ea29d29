"""Budgets: how far an image may move, and how it is held there exactly."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

Norm = Literal["linf", "l2", "l1"]
NORMS: tuple[Norm, ...] = get_args(Norm)


def lengths(change: Tensor, norm: str) -> Tensor:
    """The size of each change: N numbers in the type of the change.

    Args:
        change: N x ...
        norm: "linf" (the largest change of a pixel), "l2" (root of the sum of squares), "l1" (sum of the sizes),
            or "l0" (how many values changed).

    >>> lengths(torch.tensor([[3.0, -4.0]]), "l2")
    tensor([5.])
    """
    flat = change.flatten(1)
    if norm == "l0":
        return (flat != 0).sum(1).to(change.dtype)
    order = {"linf": math.inf, "l2": 2, "l1": 1}[norm]
    size: Tensor = torch.linalg.vector_norm(flat, order, dim=1)
    return size


def distances(images: Tensor, others: Tensor, norm: str) -> Tensor:
    """How far each image lies from another: N numbers in float64, from exact differences."""
    return lengths(others.double() - images.double(), norm)


def project(change: Tensor, eps: float, norm: Norm) -> Tensor:
    """The nearest change, in the Euclidean sense, of size eps at most.

    Args:
        change: N x ...; eps: the radius, above 0; norm: of the ball.

    >>> project(torch.tensor([[3.0, 1.0]]), 2.0, "l1")
    tensor([[2., 0.]])
    """
    if norm == "linf":
        return change.clamp(-eps, eps)
    if norm == "l2":
        return change * broadcast((eps / lengths(change, "l2").clamp(min=1e-30)).clamp(max=1), change)
    sizes = change.abs().flatten(1)
    # Duchi et al. 2008: the sizes are lowered by one threshold so that they sum to eps.
    ordered = sizes.sort(1, descending=True).values
    excess = (ordered.cumsum(1) - eps) / torch.arange(1, sizes.shape[1] + 1, device=sizes.device)
    last = (ordered > excess).sum(1, keepdim=True).clamp(min=1) - 1
    threshold = excess.gather(1, last).clamp(min=0)
    return (change.sign().flatten(1) * (sizes - threshold).clamp(min=0)).view_as(change)


def project_l1_box(change: Tensor, images: Tensor, eps: float, low: float, high: float) -> Tensor:
    """The nearest change whose sizes sum to eps at most and that leaves every pixel in [low, high].

    Croce & Hein 2021, Mind the box. Projecting onto the ball and clipping after gives a shorter change than allowed.

    Args:
        change, images: N x C x H x W; eps: the radius; low, high: bounds of pixels.

    >>> project_l1_box(torch.tensor([[1.0, 0.5]]), torch.tensor([[0.9, 0.0]]), 0.5, 0, 1).round(decimals=4)
    tensor([[0.1000, 0.4000]])
    """
    room = torch.where(change > 0, high - images, images - low).flatten(1)
    sizes = change.abs().flatten(1)
    lower = torch.zeros(len(sizes), 1, dtype=sizes.dtype, device=sizes.device)
    upper = sizes.amax(1, keepdim=True)
    inside = torch.minimum(sizes, room).sum(1, keepdim=True) <= eps
    for _ in range(40):  # the sum falls with the threshold: halving finds it
        middle = (lower + upper) / 2
        over = torch.minimum((sizes - middle).clamp(min=0), room).sum(1, keepdim=True) > eps
        lower, upper = torch.where(over, middle, lower), torch.where(over, upper, middle)
    threshold = torch.where(inside, torch.zeros_like(upper), upper)
    kept = torch.minimum((sizes - threshold).clamp(min=0), room)
    return (change.sign().flatten(1) * kept).view_as(change)


def project_exactly(images: Tensor, found: Tensor, eps: float | None, norm: Norm, low: float, high: float) -> Tensor:
    """The images found, moved by rounding errors so that they hold the budget and the bounds exactly.

    Every value is rounded towards the original image, so that the true difference, not the rounded one, is eps
    at most, whatever the type.

    Args:
        images, found: N x C x H x W of one floating type. eps: the budget; None for none. norm: its norm.
        low, high: bounds of pixels; the images lie between.

    >>> x = torch.tensor([[[[0.1]]]], dtype=torch.float16)
    >>> bool((project_exactly(x, x + 1, 8 / 255, "linf", 0, 1).double() - x.double()).abs() <= 8 / 255)
    True
    """
    found = found.to(images.dtype).clamp(low, high)
    if eps is None:
        return found
    if norm == "linf":
        least, most = torch.aminmax(found - images)
        if max(-float(least), float(most)) < largest_below(eps, images.dtype):
            return found  # rounding keeps order: what is below eps when rounded is below it
    exact = images.double()
    change = found.double() - exact
    # Below by more than the errors that float64 itself makes: of a sum, or of one difference.
    eps *= 1 if norm == "linf" and images.dtype != torch.float64 else 1 - (2**-52 if norm == "linf" else 1e-12)
    # What is within already is left alone, to the last bit.
    long = lengths(change, norm) > eps
    if norm == "linf":
        change = change.clamp(-eps, eps)
    else:
        change = torch.where(broadcast(long, change), project(change, eps, norm), change)
    near = (exact + change).to(images.dtype)
    limit = change.abs() * (1 - 2**-52) if images.dtype == torch.float64 else change.abs()
    near = torch.where((near.double() - exact).abs() > limit, torch.nextafter(near, images), near)
    return torch.where(broadcast(long, found), near, found).clamp(low, high)


def largest_below(eps: float, dtype: torch.dtype) -> float:
    """The largest number of a type that is eps at most.

    >>> largest_below(0.1, torch.float32) <= 0.1 < largest_below(0.1000001, torch.float32)
    True
    """
    number = torch.tensor(eps, dtype=dtype)
    return float(number if float(number) <= eps else torch.nextafter(number, torch.zeros_like(number)))


def rounding_margin(eps: float, dtype: torch.dtype, low: float, high: float) -> float:
    """A budget that sums of such numbers do not leave by rounding; eps itself where that would cost a share of it.

    >>> rounding_margin(0.5, torch.float16, 0, 1), 0.4999990 < rounding_margin(0.5, torch.float32, 0, 1) < 0.5
    (0.5, True)
    """
    lost = 2 * torch.finfo(dtype).eps * max(abs(low), abs(high))
    return eps - lost if lost < 1e-4 * eps else eps


def step_bounds(images: Tensor, eps: float, low: float, high: float) -> tuple[Tensor, Tensor]:
    """The lowest and the highest image within eps in "linf", exactly: what an iterate is clamped between.

    >>> step_bounds(torch.tensor([[0.5], [1.0]]), 0.25, 0.0, 1.0)[0]
    tensor([[0.2500],
            [0.7500]])
    """
    return project_exactly(images, images - eps, eps, "linf", low, high), project_exactly(
        images, images + eps, eps, "linf", low, high
    )


def unit(slope: Tensor, norm: Literal["linf", "l2"]) -> Tensor:
    """The direction of size 1 in `norm` along which a function with this gradient rises fastest.

    Where the gradient is zero, so is the direction.
    """
    if norm == "linf":
        return slope.sign()
    # Scaled first: the squares of a small gradient must not vanish.
    slope = slope / broadcast(lengths(slope, "linf").clamp(min=torch.finfo(slope.dtype).tiny), slope)
    return slope / broadcast(lengths(slope, "l2").clamp(min=1e-7), slope)


def l1_steepest_step(slope: Tensor, images: Tensor, eps: float, low: float, high: float) -> Tensor:
    """The change of size eps at most in l1, in bounds, along which a function with this gradient rises most.

    The steepest pixel goes to its bound, then the next, until the budget is spent.

    >>> l1_steepest_step(torch.tensor([[1.0, -3.0]]), torch.tensor([[0.5, 0.25]]), 0.5, 0.0, 1.0)
    tensor([[ 0.2500, -0.2500]])
    """
    room = torch.where(slope > 0, high - images, images - low).masked_fill(slope == 0, 0).flatten(1)
    order = slope.abs().flatten(1).argsort(1, descending=True)
    rooms = room.gather(1, order)
    spent = (eps - (rooms.cumsum(1) - rooms)).clamp(min=0)
    change = torch.zeros_like(room).scatter_(1, order, torch.minimum(spent, rooms))
    return change.view_as(slope) * slope.sign()


def broadcast(values: Tensor, like: Tensor) -> Tensor:
    """N values as N x 1 x ..., to multiply images with."""
    return values.view(-1, *[1] * (like.ndim - 1))
