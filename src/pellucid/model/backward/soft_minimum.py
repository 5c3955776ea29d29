"""Squared distances to points and their soft minimum: what kernel machines and clusterings are made of.

Function modes see both as one function each; relevance is shared among them by `backward.distances`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

ELEMENTS = 2**20
"""How many numbers are held at once where images, points and dimensions meet."""


def squared_distances(x: Tensor, centers: Tensor) -> Tensor:
    """|x_n - u_i|^2, N x M, from differences: small ones are exact wherever the points lie.

    Args:
        x: N x D.
        centers: M x D, taken as constant: they get no gradient.

    Raises:
        ValueError: for shapes that do not fit.

    >>> squared_distances(torch.tensor([[0.5]]), torch.tensor([[0.0], [2.0]]))
    tensor([[0.2500, 2.2500]])
    """
    if has_torch_function((x, centers)):
        found: Tensor = handle_torch_function(squared_distances, (x, centers), x, centers)
        return found
    if x.ndim != 2 or centers.ndim != 2 or x.shape[1] != centers.shape[1]:
        raise ValueError(
            f"points of shape {' x '.join(map(str, x.shape))} have no distance to centers of shape "
            f"{' x '.join(map(str, centers.shape))}: expected N x {centers.shape[-1]}"
        )
    result: Tensor = _SquaredDistances.apply(x, centers)
    return result


def soft_min(h: Tensor, gamma: float, log_weights: Tensor | None = None) -> Tensor:
    """-1/gamma log sum_i w_i exp(-gamma h_i) over the last axis; its derivatives are the shares p_i, which sum to 1.

    Between min h - log(M) / gamma and min h for M weights of 1.

    Args:
        h: ... x M.
        gamma: above 0: the larger, the nearer to the minimum.
        log_weights: M numbers, log w; all 0 by default.

    >>> soft_min(torch.tensor([0.25, 2.25]), 1.0)
    tensor(0.1231)
    """
    if has_torch_function((h, log_weights)):
        found: Tensor = handle_torch_function(soft_min, (h, log_weights), h, gamma, log_weights)
        return found
    scores = -gamma * h if log_weights is None else log_weights - gamma * h
    return -scores.logsumexp(-1) / gamma


def by_dimension(x: Tensor, centers: Tensor, g: Tensor) -> Tensor:
    """sum_i g_ni (x_nd - u_id)^2, N x D: what each dimension adds to sum_i g_ni |x_n - u_i|^2.

    Args:
        x: N x D. centers: M x D. g: N x M.

    >>> by_dimension(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2), torch.ones(1, 1))
    tensor([[1., 4.]])
    """
    total = torch.zeros_like(x)
    size = max(1, ELEMENTS // max(1, x.numel()))
    for points, weights in zip(centers.split(size), g.split(size, 1), strict=True):
        total += torch.einsum("nm,nmd->nd", weights, (x[:, None] - points).square())
    return total


class _SquaredDistances(torch.autograd.Function):
    """Written out, because autograd would keep N x M x D differences."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, centers: Tensor) -> Tensor:
        ctx.save_for_backward(x, centers)
        # |x|^2 - 2 x u + |u|^2 loses all digits where the points are near each other and far from 0.
        return torch.cdist(x, centers, compute_mode="donot_use_mm_for_euclid_dist").square()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        x, centers = ctx.saved_tensors
        middle = centers.mean(0)
        return 2 * ((x - middle) * g.sum(1, keepdim=True) - g @ (centers - middle)), None
