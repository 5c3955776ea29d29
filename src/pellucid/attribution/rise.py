"""RISE: the objective of the image seen through random masks, given back to what the masks showed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..methods.result import Attribution
from ..model.run import Model
from ..objectives import Bound
from .ingredients.baselines import Baseline, baseline_images
from .ingredients.batched_gradients import scores_over
from .ingredients.decorator import attribution
from .ingredients.noise import mixed

BLOCK = 64  # masks at a time while they are added up


@attribution(
    paper="Petsiuk, Das & Saenko 2018, RISE: randomized input sampling for explanation of black-box models",
    gradient=False,
)
def rise(
    model: Model,
    images: Tensor,
    objective: Bound,
    *,
    samples: int = 1000,
    grid: int = 7,
    keep: float = 0.5,
    center: bool = True,
    baseline: Baseline = "mean",
    seed: int = 0,
) -> Attribution:
    """How much higher the objective is when a pixel can be seen than it is on average.

    values = 1 / (n p) sum_i (f_i - c) m_i, with f_i = f(b + m_i (x - b)) and n random masks m_i: a grid of
    cells, each open with probability p, enlarged smoothly and shifted at random. With c = 0 this is the paper's
    formula: the mean of f when the pixel can be seen, which lies around the mean of f everywhere. With c that
    mean, the same map has its zero there, and less noise. The paper explains probabilities with 4000 masks or
    more; all images of a batch get the same masks.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        objective: what to explain; None is the predicted class.
        samples: n, how many masks.
        grid: cells along each side.
        keep: p, the share of open cells, between 0 and 1.
        center: take the mean of f as c; False is the paper's c = 0.
        baseline: what hidden pixels become: "mean" color, "black", "white", "blur", "noise", or a tensor.
        seed: of the masks, and for "noise".

    Returns:
        An `Attribution`: values N x 1 x H x W, in units of the objective.

    Raises:
        ValueError: for fewer than 1 sample or cell, or a share outside (0, 1].

    >>> import pellucid
    >>> model = pellucid.load("shapes")
    >>> scenes = pellucid.shapes.scenes(1)
    >>> pellucid.rise(model, scenes.images, pellucid.probability("star"), samples=20).values.shape
    torch.Size([1, 1, 96, 96])
    """
    if samples < 1 or grid < 1:
        raise ValueError(f"samples is {samples} and grid is {grid}, expected at least 1 each")
    if not 0 < keep <= 1:
        raise ValueError(f"keep is {keep}, expected a share above 0 and up to 1")
    images = images.detach()
    start = baseline_images(model, images, baseline, seed)
    size = (images.shape[2], images.shape[3])

    def masks(numbers: Tensor) -> Tensor:
        return random_masks(numbers, size, grid, keep, seed).to(images)

    def through(rows: Tensor, numbers: Tensor) -> Tensor:
        return torch.lerp(start[rows], images[rows], masks(numbers).expand(-1, images.shape[1], -1, -1))

    scores = scores_over(model, images, objective, samples, through, "rise")
    if center:
        scores = scores - scores.mean(1, keepdim=True)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))  # many small numbers are added up
    total = scores.new_zeros(len(images), size[0] * size[1])
    for part in torch.arange(samples).split(BLOCK):
        total += scores[:, part] @ masks(part).to(scores).flatten(1)
    return Attribution((total / (samples * keep)).view(-1, 1, *size))


def random_masks(numbers: Tensor, size: tuple[int, int], grid: int, keep: float, seed: int) -> Tensor:
    """The masks of the given numbers, M x 1 x H x W in [0, 1]; each depends on the seed and its number alone.

    >>> random_masks(torch.arange(2), (32, 32), 4, 0.5, 0).shape
    torch.Size([2, 1, 32, 32])
    """
    cell = (-(-size[0] // grid), -(-size[1] // grid))
    cells, shifts = [], []
    for number in numbers.tolist():
        generator = torch.Generator().manual_seed(mixed(seed, number))
        cells.append(torch.rand(1, grid, grid, generator=generator) < keep)
        shifts.append([int(torch.randint(side, (1,), generator=generator)) for side in cell])
    larger = [(grid + 1) * side for side in cell]
    smooth = F.interpolate(torch.stack(cells).float(), larger, mode="bilinear", align_corners=False)
    return torch.stack(
        [m[:, y : y + size[0], x : x + size[1]] for m, (y, x) in zip(smooth, shifts, strict=True)]
    )  # fmt: skip
