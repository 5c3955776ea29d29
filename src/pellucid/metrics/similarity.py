"""How alike two maps are: rank correlation, and structural similarity."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..display.colors import smooth
from ..methods.verb import verb

Similarity = Literal["spearman", "ssim"]


@verb(kind="metric")
def spearman(one: Tensor, other: Tensor) -> Tensor:
    """The correlation of the ranks of two maps' values; ties share the mean of their ranks.

    Args:
        one, other: N x ..., of one shape.

    Returns:
        N numbers in [-1, 1]; 0 where a map is constant.

    >>> spearman(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[10.0, 30.0, 20.0]]))
    tensor([0.5000])
    """
    a, b = (_ranks(values.flatten(1)) for values in (one, other))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    size = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(size > 0, (a * b).sum(1) / torch.where(size > 0, size, 1), 0).float()


@verb(
    kind="metric",
    paper=(
        "Wang, Bovik, Sheikh & Simoncelli 2004, Image quality assessment: from error visibility to structural "
        "similarity"
    ),
)
def ssim(one: Tensor, other: Tensor, *, sigma: float = 1.5) -> Tensor:
    """The structural similarity of two maps, each brought to [0, 1] before.

    mean over pixels of (2 ma mb + c1) (2 cov + c2) / ((ma^2 + mb^2 + c1) (va + vb + c2)), with means, variances and
    covariance under a Gaussian window, c1 = 0.01^2, c2 = 0.03^2.

    Paper: Wang, Bovik, Sheikh & Simoncelli 2004, Image quality assessment: from error visibility to structural
    similarity.

    Args:
        one, other: N x C x H x W, of one shape; channels are averaged at the end.
        sigma: of the window, in pixels.

    Returns:
        N numbers, 1 for equal maps.

    >>> maps = torch.rand(1, 1, 16, 16)
    >>> ssim(maps, maps)
    tensor([1.])
    """
    a, b = (_stretched(values.double()) for values in (one, other))
    low, high = 0.01**2, 0.03**2

    def mean(values: Tensor) -> Tensor:
        return smooth(values, sigma)

    ma, mb = mean(a), mean(b)
    va, vb, both = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    found = (2 * ma * mb + low) * (2 * both + high) / ((ma**2 + mb**2 + low) * (va + vb + high))
    return found.flatten(1).mean(1).float()


def similarity_of(one: Tensor, other: Tensor, similarity: Similarity, absolute: bool) -> Tensor:
    """How alike maps are after summing their channels, N numbers.

    Raises:
        ValueError: for another similarity than "spearman" and "ssim".
    """
    maps = [values.double().sum(1, keepdim=True) for values in (one, other)]
    if absolute:
        maps = [values.abs() for values in maps]
    if similarity not in ("spearman", "ssim"):
        raise ValueError(f"similarity is {similarity!r}, expected 'spearman' or 'ssim'")
    return spearman(*maps) if similarity == "spearman" else ssim(*maps)


def _ranks(values: Tensor) -> Tensor:
    """Ranks, equal values sharing the mean of theirs."""
    from scipy.stats import rankdata

    ranks = rankdata(values.detach().double().cpu().numpy(), axis=1)
    return torch.from_numpy(ranks).to(values.device)


def _stretched(values: Tensor) -> Tensor:
    low, high = values.amin((1, 2, 3), keepdim=True), values.amax((1, 2, 3), keepdim=True)
    return (values - low) / torch.where(high > low, high - low, 1)
