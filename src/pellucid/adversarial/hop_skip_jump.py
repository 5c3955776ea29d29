"""HopSkipJump: along the boundary to the nearest image that fools. It sees the predicted class only."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .attack.budgets import broadcast, lengths
from .attack.case import Case
from .attack.decorator import attack

FIRST_TRIES = 100  # random images to begin from
HALVINGS = 40  # at the most, of one search
ROWS = 32  # variants looked at together where there are few images


@attack(
    paper="Chen, Jordan & Wainwright 2020, HopSkipJumpAttack: a query-efficient decision-based attack",
    gradient=False,
    steps_in_pixels=True,
)
def hop_skip_jump(
    case: Case,
    *,
    norm: Literal["l2", "linf"] = "l2",
    steps: int = 20,
    directions: int = 100,
    starts: Tensor | None = None,
) -> Tensor:
    """Along the boundary to the nearest image that fools; it sees the predicted class only, no outputs or gradients.

    From an image that fools the network, halving leads to the boundary. There the direction v away from the label is
    estimated from random directions u_b: v = mean of (s_b - mean of s) u_b, with s_b = 1 where x + d u_b fools the
    network and -1 where it does not. The image goes along v (sign(v) in linf) by |x - x_0| / sqrt(t), or a half, a
    quarter, ... of that, where it still fools the network, and back to the boundary.

    Args:
        model: a network or a `Classifier`; any function from images to N x K outputs.
        images: N x C x H x W in [0, 1].
        labels: the right class by index or label, or one for each image; None is the predicted class.
        target: the class to be taken for; None for any wrong one.
        norm: in which the change is small: "l2" or "linf".
        steps: along the boundary.
        directions: tried in the first step; in step t so many times sqrt(t).
        starts: one image, 1 x C x H x W, that fools the network, to begin from; by default the first of a hundred
            random ones. For a target there is hardly one among those: give an image of that class.
        bounds: of pixels, for a bare network that takes others than [0, 1].
        seed: for the directions.
        folder: where to keep what is finished, image by image in chunks: the same call with the same folder goes on
            where it was stopped.

    Returns:
        An `Attack`; where no start was found, the image is as it was.

    Raises:
        ValueError: for images outside the bounds, unknown classes, fewer than 1 step or 2 directions, or a start that
            does not fit.
        OtherRun: if the folder holds another run.

    >>> import pellucid
    >>> model, scenes = pellucid.load("shapes"), pellucid.shapes.scenes(1)
    >>> result = pellucid.hop_skip_jump(model, scenes.images, scenes.labels, steps=1, directions=10)
    >>> result.success, result.backward
    (tensor([True]), 0)
    """
    if steps < 1 or directions < 2:
        raise ValueError(f"steps is {steps} and directions is {directions}, expected at least 1 and 2")
    if starts is not None and starts.shape not in (case.images.shape[1:], (1, *case.images.shape[1:])):
        raise ValueError(f"starts has the shape {tuple(starts.shape)}, expected {(1, *case.images.shape[1:])}")
    # Streams of their own: how long the start takes is another matter for each image.
    x, able = _begin(case, starts, case.generator(0))
    source = case.generator(1)
    places = able.nonzero().flatten()
    found = case.images.clone()
    if not len(places):
        return found
    part, size = case.part(places), case.images[0].numel()
    # theta of the paper: how near to the boundary; for tiny images not as far from it as the formula has it.
    precise = min(1e-3, size**-1.5 if norm == "l2" else size**-2.0)
    x = _to_boundary(part, x[places], norm, precise)
    for t in case.steps(steps):
        far = lengths(x - part.images, norm)
        reach = far * (size * precise if norm == "linf" else size**0.5 * precise)
        reach = torch.full_like(far, 0.1 * (case.high - case.low)) if t == 0 else reach
        v = _away(part, x, reach, int(directions * (t + 1) ** 0.5), norm, source)
        x = _to_boundary(part, _jump(part, x, v, far / (t + 1) ** 0.5), norm, precise)
    found[places] = x
    return found


def _begin(case: Case, starts: Tensor | None, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """An image that fools the network for each, and for which there is one."""
    x, able = case.images.clone(), torch.zeros(len(case), dtype=torch.bool, device=case.images.device)
    for _ in range(FIRST_TRIES if starts is None else 1):
        left = (~able).nonzero().flatten()
        if not len(left):
            break
        if starts is None:
            noise = torch.rand(case.images.shape[1:], generator=source, dtype=torch.float64)
            tried = (case.low + (case.high - case.low) * noise).to(x).expand_as(x[left])
        else:
            tried = starts.to(x).expand_as(x[left])
        part = case.part(left)
        fooled = part.fooled(part.outputs(tried))
        x[left[fooled]], able[left[fooled]] = tried[fooled], True
    return x, able


def _to_boundary(case: Case, x: Tensor, norm: str, precise: float) -> Tensor:
    """The image nearest to the original on the way from x, that still fools the network."""
    origin, change = case.images, x - case.images
    far = lengths(change, "linf").clamp(min=1e-12) if norm == "linf" else torch.ones_like(lengths(change, "l2"))

    def on_the_way(share: Tensor) -> Tensor:
        if norm == "linf":
            reach = broadcast(share * far, x)
            return origin + torch.minimum(torch.maximum(change, -reach), reach)
        return origin + broadcast(share, x) * change

    low, high = torch.zeros_like(far), torch.ones_like(far)
    kept = x
    for _ in range(HALVINGS):
        if not (high - low > max(precise, 1e-7)).any():
            break
        middle = (low + high) / 2
        tried = on_the_way(middle).clamp(case.low, case.high)
        # The same number of looks for each image, whatever the others in the batch need.
        fooled = case.fooled(case.outputs(tried))
        kept = torch.where(broadcast(fooled, x), tried, kept)
        low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
    return kept


def _away(case: Case, x: Tensor, reach: Tensor, count: int, norm: str, source: torch.Generator) -> Tensor:
    """The direction away from the label, from the sides of the boundary on which random neighbors lie."""
    n, together = len(x), max(1, ROWS // len(x))
    total, signed, sides = torch.zeros_like(x), torch.zeros_like(x), torch.zeros(n, device=x.device)
    for begin in range(0, count, together):
        m = min(together, count - begin)
        # One by one: how many are drawn at a time must not matter.
        draw = torch.randn if norm == "l2" else torch.rand
        draws = torch.stack([draw(x.shape[1:], generator=source, dtype=torch.float64) for _ in range(m)])
        draws = draws if norm == "l2" else 2 * draws - 1
        draws = (draws / broadcast(lengths(draws, "l2"), draws)).to(x)
        step = reach.view(n, 1, 1, 1, 1).to(x)
        tried = (x[:, None] + step * draws).clamp(case.low, case.high)
        many = case.part(torch.arange(n, device=x.device).repeat_interleave(m))
        side = (2.0 * many.fooled(many.outputs(tried.flatten(0, 1))) - 1).view(n, m)
        moved = (tried - x[:, None]) / step.clamp(min=1e-30)
        total += moved.sum(1)
        signed += (moved * side.view(n, m, 1, 1, 1).to(x)).sum(1)
        sides += side.sum(1)
    mean = sides / count
    v = signed - broadcast(mean, x).to(x) * total
    # All on one side: the mean direction, towards that side.
    v = torch.where(broadcast(mean.abs() == 1, x), broadcast(mean, x).to(x) * total, v)
    return v.sign() if norm == "linf" else v / broadcast(lengths(v, "l2").clamp(min=1e-12), v)


def _jump(case: Case, x: Tensor, v: Tensor, size: Tensor) -> Tensor:
    """A step along v, halved until it fools the network; none where it never does."""
    landed, left = x.clone(), torch.arange(len(x), device=x.device)
    for _ in range(HALVINGS):
        part = case.part(left)
        tried = (x[left] + broadcast(size[left], x).to(x) * v[left]).clamp(case.low, case.high)
        fooled = part.fooled(part.outputs(tried))
        landed[left[fooled]] = tried[fooled]
        left = left[~fooled]
        if not len(left):
            break
        size = size / 2
    return landed
