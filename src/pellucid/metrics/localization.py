"""Is the relevance on the object? Maps compared with masks of where the evidence is.

The three measures look at the positive relevance of a pixel: the sum over its channels where that is above
zero, else zero ("sum,pos" in the words of the CLEVR-XAI paper). All lie in [0, 1], higher is better, and
two cases are settled once for all of them: a map without positive relevance scores 0, for it points nowhere,
and an empty mask scores 0, for nothing can lie in it. None is ever NaN.

What a random map would score is not 0 but, for all three, the share of the image that the mask covers.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..methods.result import Attribution
from ..methods.verb import verb


@verb(
    kind="metric",
    paper=(
        "Arras, Osman & Samek 2022, CLEVR-XAI: a benchmark dataset for the ground truth evaluation of neural "
        "network explanations"
    ),
)
def mass_accuracy(attribution: Attribution | Tensor, masks: Tensor) -> Tensor:
    """The share of the positive relevance that lies inside the mask.

    sum of max(r, 0) inside / sum of max(r, 0)

    Paper: Arras, Osman & Samek 2022, CLEVR-XAI: a benchmark dataset for the ground truth evaluation of neural
    network explanations.

    Args:
        attribution: an `Attribution` or its values, N x C x H x W.
        masks: where the evidence is, bool, N x 1 x H x W.

    Returns:
        N numbers in [0, 1]; 0 without positive relevance, and for an empty mask.

    Raises:
        TypeError: if the masks are not bool, or the values not floating.
        ValueError: for shapes that do not belong together, NaN or infinity.

    >>> values = torch.tensor([[[[3.0, 1.0], [-5.0, 0.0]]]])
    >>> mass_accuracy(values, torch.tensor([[[[True, False], [True, False]]]]))
    tensor([0.7500])
    """
    relevance, inside = _prepare(attribution, masks)
    relevance = relevance / _positive(relevance.amax(1, keepdim=True))  # before summing: large values could overflow
    share: Tensor = (relevance * inside).sum(1) / _positive(relevance.sum(1))
    return share.float()


@verb(
    kind="metric",
    paper=(
        "Arras, Osman & Samek 2022, CLEVR-XAI: a benchmark dataset for the ground truth evaluation of neural "
        "network explanations"
    ),
)
def rank_accuracy(attribution: Attribution | Tensor, masks: Tensor) -> Tensor:
    """The share of the K most relevant pixels that lie inside the mask, where K is the size of the mask.

    Pixels that tie for the last places share them: the result is the mean over all orders of the tied ones.

    Paper: Arras, Osman & Samek 2022, CLEVR-XAI: a benchmark dataset for the ground truth evaluation of neural
    network explanations.

    Args:
        attribution: an `Attribution` or its values, N x C x H x W.
        masks: where the evidence is, bool, N x 1 x H x W.

    Returns:
        N numbers in [0, 1]; 0 without positive relevance, and for an empty mask.

    Raises:
        TypeError: if the masks are not bool, or the values not floating.
        ValueError: for shapes that do not belong together, NaN or infinity.

    >>> values = torch.tensor([[[[3.0, 1.0], [-5.0, 0.0]]]])
    >>> rank_accuracy(values, torch.tensor([[[[True, False], [True, False]]]]))
    tensor([0.5000])
    """
    relevance, inside = _prepare(attribution, masks)
    size = inside.sum(1)
    ordered = relevance.sort(1, descending=True).values
    last = ordered.gather(1, (size - 1).clamp(min=0)[:, None])
    above, tied = relevance > last, relevance == last
    places = size - above.sum(1)
    hits = (above & inside).sum(1) + places * (tied & inside).sum(1) / tied.sum(1)
    return torch.where((relevance.amax(1) > 0) & (size > 0), hits / size.clamp(min=1), 0).float()


@verb(
    kind="metric",
    paper=("Zhang, Bargal, Lin, Brandt, Shen & Sclaroff 2018, Top-down neural attention by excitation backprop"),
)
def pointing_game(attribution: Attribution | Tensor, masks: Tensor, *, tolerance: float = 0) -> Tensor:
    """Whether the most relevant pixel lies inside the mask, or near it.

    Where several pixels share the maximum, the result is the share of them that hit.

    Paper: Zhang, Bargal, Lin, Brandt, Shen & Sclaroff 2018, Top-down neural attention by excitation backprop.

    Args:
        attribution: an `Attribution` or its values, N x C x H x W.
        masks: where the evidence is, bool, N x 1 x H x W.
        tolerance: how many pixels away from the mask still count; the paper takes 15 for photos of about 500.

    Returns:
        N numbers, 1 for a hit and 0 for a miss; 0 without positive relevance, and for an empty mask.

    Raises:
        TypeError: if the masks are not bool, or the values not floating.
        ValueError: for shapes that do not belong together, NaN or infinity, or a negative tolerance.

    >>> values = torch.tensor([[[[0.0, 1.0, 9.0]]]])
    >>> masks = torch.tensor([[[[True, False, False]]]])
    >>> pointing_game(values, masks), pointing_game(values, masks, tolerance=2)
    (tensor([0.]), tensor([1.]))
    """
    if not 0 <= tolerance < float("inf"):
        raise ValueError(f"tolerance is {tolerance!r}, expected a number of pixels, 0 or more")
    relevance, inside = _prepare(attribution, masks)
    if tolerance >= 1:
        inside = _grown(masks.detach().to(relevance.device), tolerance).flatten(1)
    most = relevance.amax(1, keepdim=True)
    peak = (relevance == most) & (most > 0)
    share: Tensor = (peak & inside).sum(1) / peak.sum(1).clamp(min=1)
    return share.float()


def _prepare(attribution: Attribution | Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Positive relevance (float64) and masks, both N x pixels, checked."""
    values = attribution.values if isinstance(attribution, Attribution) else attribution
    if not isinstance(values, Tensor) or not values.is_floating_point():
        kind = str(values.dtype) if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"the attribution is {kind}, expected an Attribution or floating values N x C x H x W")
    if not isinstance(masks, Tensor) or masks.dtype != torch.bool:
        kind = f"{masks.dtype}" if isinstance(masks, Tensor) else type(masks).__name__
        raise TypeError(f"the masks are {kind}, expected torch.bool: pass masks > 0.5, or whatever means inside")
    if values.ndim != 4 or values.numel() == 0:
        raise ValueError(f"the values have shape {tuple(values.shape)}, expected N x C x H x W")
    expected = (len(values), 1, *values.shape[2:])
    if tuple(masks.shape) != expected:
        hint = ""
        if tuple(masks.shape) == (expected[0], *expected[2:]):
            hint = ": pass masks[:, None]"
        elif masks.ndim == 4 and masks.shape[2:] != values.shape[2:]:
            hint = ": bring the map to the size of the mask first, with pellucid.display.colors.enlarge"
        raise ValueError(f"the masks have shape {tuple(masks.shape)}, expected {expected} as the values{hint}")
    if not values.isfinite().all():
        raise ValueError("the attribution has NaN or infinite values: no share can be taken of those")
    relevance = values.detach().double().sum(1).clamp(min=0).flatten(1)
    return relevance, masks.detach().to(values.device).flatten(1)


def _positive(total: Tensor) -> Tensor:
    """A divisor that leaves 0/0 at 0."""
    return torch.where(total > 0, total, 1)


def _grown(masks: Tensor, tolerance: float) -> Tensor:
    """Masks with all pixels whose center is at most that far from the center of one inside."""
    radius = min(int(tolerance), max(masks.shape[2:]))
    steps = torch.arange(-radius, radius + 1, device=masks.device)
    disc = (steps[:, None] ** 2 + steps**2 <= tolerance**2).float()[None, None]
    return F.conv2d(masks.float(), disc, padding=radius) > 0.5
