"""Integrated gradients: the gradient summed along the straight path from a baseline to the image."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..checks import warn
from ..methods.result import Attribution
from ..model.run import Model
from ..objectives import Bound
from .ingredients.baselines import Baseline, baseline_images
from .ingredients.batched_gradients import gradients_over, of_rows, values_of
from .ingredients.decorator import attribution

MOST_STEPS = 20_000


@attribution(paper="Sundararajan, Taly & Yan 2017, Axiomatic attribution for deep networks")
def integrated_gradients(
    model: Model,
    images: Tensor,
    objective: Bound,
    *,
    baseline: Baseline = "mean",
    steps: int = 50,
    quadrature: str = "midpoint",
    tolerance: float | None = None,
    convergence_delta: bool = False,
    seed: int = 0,
) -> Attribution:
    """What each pixel adds on the way from a baseline to the image; the values add up to the change.

    values = (x - b) x integral over a in [0, 1] of g(b + a (x - b)), with x the image, b the baseline and g
    the gradient. Completeness: their sum is f(x) - f(b). On a probability the integrand is a spike, and the
    sum is far off even with many steps; explain the logit, or look at the gap.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        objective: what to explain; None is the predicted class.
        baseline: "mean" color, "black", "white", "blur", "noise", or a tensor.
        steps: gradients taken along the path; with a tolerance, those to begin with.
        quadrature: "midpoint" or "gauss_legendre".
        tolerance: triple the midpoints until |gap| <= tolerance x |f(x) - f(b)|, image by image. Each
            gradient already taken is used again.
        convergence_delta: return the convergence delta (completeness error), the sum of the values less f(x) - f(b).
            Always with a tolerance.
        seed: for "noise".

    Returns:
        An `Attribution`: values as the images, in units of the objective; gap N numbers if asked for.

    Raises:
        ValueError: for an unknown rule or baseline, fewer than 1 step, a tolerance that is not above 0, or a
            tolerance with Gauss-Legendre, whose points cannot be used again.

    Warns:
        UserWarning: if the tolerance was not met with 20 000 steps.

    >>> import pellucid
    >>> model = pellucid.load("shapes")
    >>> images = pellucid.shapes.scenes(1).images
    >>> result = pellucid.integrated_gradients(model, images, "star", steps=20, convergence_delta=True)
    >>> result.values.shape, result.gap.shape
    (torch.Size([1, 3, 96, 96]), torch.Size([1]))
    """
    if quadrature not in ("midpoint", "gauss_legendre"):
        raise ValueError(f"rule is {quadrature!r}, expected 'midpoint' or 'gauss_legendre'")
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected at least 1")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance is {tolerance}, expected a fraction above 0, such as 0.01")
    if tolerance is not None and quadrature != "midpoint":
        raise ValueError("a tolerance needs rule='midpoint': Gauss-Legendre points cannot be used again")
    images = images.detach()
    start = baseline_images(model, images, baseline, seed)
    way = images - start

    def summed(points: Tensor, weights: Tensor | None = None, subset: Tensor | None = None) -> Tensor:
        def at(rows: Tensor, k: Tensor) -> Tensor:
            return torch.addcmul(of_rows(start, rows), of_rows(way, rows), _column(points[k], images))

        def weighted(slopes: Tensor, _rows: Tensor, k: Tensor) -> Tensor:
            return slopes if weights is None else slopes * _column(weights[k], slopes)

        return gradients_over(model, images, objective, len(points), at, weighted, "integrated gradients", subset)

    if quadrature == "gauss_legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        mean = summed(torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2))
    else:
        mean = summed(midpoints(steps)) / steps
    if tolerance is None and not convergence_delta:
        return Attribution(way * mean)
    change = values_of(model, images, objective) - values_of(model, start, objective)
    left = (way * mean).sum((1, 2, 3)) - change
    if tolerance is not None:
        missing = (left.abs() > tolerance * change.abs()).nonzero().flatten()
        while len(missing) and 3 * steps <= MOST_STEPS:
            points = midpoints(3 * steps)
            points = points[torch.arange(3 * steps) % 3 != 1]  # every third was there before
            mean[missing] = mean[missing] / 3 + summed(points, subset=missing.cpu()) / (3 * steps)
            steps *= 3
            left[missing] = (way[missing] * mean[missing]).sum((1, 2, 3)) - change[missing]
            missing = missing[left[missing].abs() > tolerance * change[missing].abs()]
        if len(missing):
            worst = float((left[missing].abs() / change[missing].abs()).max())
            warn(
                f"integrated gradients: with {steps} steps the gap of {len(missing)} of {len(images)} images is still "
                f"above the tolerance {tolerance:g} (the largest is {worst:.2g} of the change)"
            )
    return Attribution(way * mean, convergence_delta=left)


def midpoints(count: int) -> Tensor:
    """(k + 1/2) / count for k = 0 ... count-1; those of 3 x count contain them.

    >>> midpoints(2)
    tensor([0.2500, 0.7500], dtype=torch.float64)
    """
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like)[:, None, None, None]
