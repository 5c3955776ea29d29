"""The smallest change within bounds that brings an image onto a plane."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..attack.budgets import broadcast

NEWTON = 20  # the root of a concave, piecewise linear function: it is found as soon as the right piece is


def to_plane(
    images: Tensor, normal: Tensor, gap: Tensor, norm: Literal["linf", "l2", "l1"], low: float, high: float
) -> Tensor:
    """The smallest change d in a norm with w.d = gap and every pixel of x + d in [low, high].

    Along the direction r_i of steepest ascent (1 in linf, |w_i| in l2) pixel i moves by min(t r_i, its room), with t
    such that sum_i |w_i| min(t r_i, room_i) = |gap|. In l1 the pixels of the largest |w_i| go to their bounds one by
    one.
    Where the plane cannot be reached in bounds, the change goes as far as it can.

    Args:
        images: n x C x H x W, in bounds. normal: w, of the same shape. gap: n numbers of any sign.

    >>> to_plane(torch.tensor([[0.5, 0.9]]), torch.tensor([[1.0, 1.0]]), torch.tensor([0.4]), "l2", 0, 1)
    tensor([[0.3000, 0.1000]])
    """
    w = (normal * broadcast(gap.sign(), normal)).flatten(1)
    room = torch.where(w > 0, high - images.flatten(1), images.flatten(1) - low).masked_fill(w == 0, 0)
    sizes, needed = w.abs(), gap.abs()[:, None].to(w.dtype)
    if norm == "l1":
        order = sizes.argsort(1, descending=True)
        ordered, rooms = sizes.gather(1, order), room.gather(1, order)
        gains = ordered * rooms
        left = (needed - (gains.cumsum(1) - gains)).clamp(min=0)
        moved = torch.minimum(left / ordered.clamp(min=1e-12), rooms)
        change = torch.zeros_like(room).scatter_(1, order, moved)
    else:
        rate = sizes if norm == "l2" else (sizes > 0).to(w.dtype)
        t = torch.zeros_like(needed)
        for _ in range(NEWTON):
            moved = t * rate
            gained = (sizes * torch.minimum(moved, room)).sum(1, keepdim=True)
            pace = (sizes * rate * (moved < room)).sum(1, keepdim=True)
            # Where nothing can move any more, t stays; from the left, the steps never go too far.
            more = torch.where(pace > 0, (needed - gained).clamp(min=0) / pace.clamp(min=1e-30), torch.zeros_like(t))
            t = t + more
            if not (more > 1e-7 * t).any():
                break
        change = torch.minimum(t * rate, room)
    return (change * w.sign()).view_as(images)
