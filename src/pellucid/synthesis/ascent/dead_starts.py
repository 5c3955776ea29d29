"""Dead starts: where an objective has no gradient, how that is noticed, and how an ascent gets away."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ...model.run import Model, Score, count_backward, no_gradient, run
from ...rules.rule import Function, rule
from ..ingredients.canvas import Canvas, Parameters, broadcast_rows, noise
from .plan import Plan

STILL = {"adam": 1e-10, "unit": 1e-30, "lbfgs": 1e-12}  # gradients below this at every pixel move nothing
LOUDER = 8  # starts that are drawn, each with three times the noise of the one before
LED = 64  # steps with ReLUs opened
Values = Callable[[Tensor], Tensor]


def rows_without_gradient(
    model: Model,
    score: Score,
    canvas: Canvas,
    parameters: Parameters,
    rows: Tensor,
    plan: Plan,
    center: Tensor,
    redraw: Callable[[int], Parameters] | None,
) -> Tensor:
    """Which rows have no gradient at their start, after ways out were tried; parameters are moved where one was found.

    First ReLUs that are off let through what would switch them on (`redirected`), for a few steps; then starts are
    drawn anew with more noise. A row that lies on a summit has no gradient either, and is not dead: an image in its own
    style is where it should be.
    """
    device = parameters[0].device

    def values_of(images: Tensor) -> Tensor:
        return score(run(model, images, read=score.reads, to_output=score.needs_output, rows=rows))

    def dead_at(given: Parameters) -> Tensor:
        images = canvas.draw(tuple(p.detach() for p in given)).detach()
        for edit in plan.transforms:
            if edit.when == "before" and edit.change is not None:
                images = edit.change(images, center)
        images = images.detach().requires_grad_()
        values = values_of(images)
        if not values.requires_grad:
            raise no_gradient(None)
        (slope,) = torch.autograd.grad(values.sum(), images, allow_unused=True)
        if slope is None:
            raise no_gradient(None)
        count_backward(len(images))
        dead = still(slope, plan)
        if dead.any():
            with torch.no_grad():
                dead &= ~_summit(values_of, images.detach(), values.detach()).cpu()
        return dead

    def move(mask: Tensor, others: Parameters) -> None:
        with torch.no_grad():
            for parameter, other in zip(parameters, others, strict=True):
                parameter.copy_(torch.where(broadcast_rows(mask.to(device), parameter), other, parameter))

    dead = dead_at(parameters)
    if dead.any():
        for led in _led(model, score, canvas, parameters, rows, plan, dead):
            found = dead & ~dead_at(led)
            move(found, led)
            dead &= ~found
            if not dead.any():
                break
    for attempt in range(1, LOUDER if redraw else 1):
        if not dead.any():
            break
        assert redraw is not None
        start = tuple(p.detach().clone() for p in parameters)
        move(dead, redraw(attempt))
        found = dead & ~dead_at(parameters)
        move(dead & ~found, start)
        dead &= ~found
    return dead


@rule("activation", on="function")
def redirected() -> Callable[[Function, Tensor], Tensor]:
    """A ReLU that is off lets through the gradient that would switch it on (as in Lucid, Olah et al. 2017)."""
    return lambda call, slope: torch.where(call.x > 0, slope, slope.clamp(min=0))


RULES = {function: redirected() for function in (F.relu, torch.relu, torch.Tensor.relu)}


def _led(
    model: Model, score: Score, canvas: Canvas, parameters: Parameters, rows: Tensor, plan: Plan, dead: Tensor
) -> Iterator[Parameters]:
    """Where redirected gradients lead to, every fourth step; nothing where rules cannot follow the network."""
    moved = tuple(p.detach().clone().requires_grad_() for p in parameters)
    optimizer = torch.optim.Adam(moved, lr=plan.step_size if plan.optimizer in ("adam", "unit") else 0.02)
    for number in range(1, LED + 1):
        images = canvas.draw(moved)
        try:
            trace = run(model, images, read=score.reads, to_output=score.needs_output, rows=rows, rules=RULES)
            slopes = torch.autograd.grad(score(trace).sum(), moved, allow_unused=True)
        except RuntimeError:  # a RuleError is one
            return
        count_backward(len(images))
        known = [slope for slope in slopes if slope is not None and slope.isfinite().all()]
        if len(known) < len(slopes) or not (dead & ~torch.stack([still(slope, plan) for slope in known]).all(0)).any():
            return  # nothing is behind a ReLU: a saturated sigmoid, say
        for parameter, slope in zip(moved, known, strict=True):
            parameter.grad = slope.neg()
        optimizer.step()
        with torch.no_grad():
            if canvas.bound is not None:
                canvas.bound(moved)
        if number % 4 == 0:
            yield tuple(p.detach().clone() for p in moved)


def still(slopes: Tensor, plan: Plan) -> Tensor:
    """Which rows of a gradient move nothing: in plain ascent, no pixel by 0.01 if it stayed like that to the end."""
    least = (
        1e-2 / (plan.step_size * plan.steps) if plan.optimizer == "ascent" else STILL.get(str(plan.optimizer), 1e-12)
    )
    return (slopes.detach().flatten(1).abs().amax(1) < min(least, 1e-3)).cpu()


def _summit(values_of: Values, images: Tensor, values: Tensor) -> Tensor:
    """Which images have less to both sides of them in each of two directions; behind a ReLU that is off, all is level.

    On the slope of a saturated sigmoid, however small, one of the sides is higher.
    """
    summit = torch.ones_like(values, dtype=torch.bool)
    least = 1e-6 * values.abs()
    for direction in range(2):
        away = 0.01 * noise(images, tuple(images.shape[1:]), direction)
        for side in (away, -away):
            summit &= values - values_of(images + side) > least
    return summit
