"""A picture as a camera would see it: the transformations that a change in the world has to survive."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def placed(
    size: tuple[int, int], patch: Tensor, *, scale: float, angle: float, y: float, x: float, round_: bool
) -> tuple[Tensor, Tensor]:
    """A patch in a picture: what it shows there, and where it covers.

    Args:
        size: height and width of the picture. patch: C x h x w.
        scale: the patch's side as a share of the picture's shorter side.
        angle: in radians, counter-clockwise. y, x: of its centre, in [-1, 1] from the top left.
        round_: cut to a disc.

    Returns:
        C x H x W, differentiable in the patch, and 1 x H x W in [0, 1].
    """
    height, width = size
    short = min(size)
    cos, sin = math.cos(angle), math.sin(angle)
    # From places in the picture back to places in the patch, both in [-1, 1].
    along, down = width / (short * scale), height / (short * scale)
    back = torch.tensor([
        [cos * along, -sin * down, -cos * along * x + sin * down * y],
        [sin * along, cos * down, -sin * along * x - cos * down * y],
    ], dtype=patch.dtype, device=patch.device)  # fmt: skip
    places = F.affine_grid(back[None], [1, patch.shape[0], height, width], align_corners=False)
    shown = F.grid_sample(patch[None], places, mode="bilinear", padding_mode="border", align_corners=False)[0]
    inside = places.square().sum(-1) <= 1 if round_ else places.abs().amax(-1) <= 1
    return shown, inside.to(patch.dtype)


def lit(images: Tensor, *, brightness: float, contrast: float, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Images in another light: contrast about the middle, then brightness added, clipped.

    >>> lit(torch.tensor([[0.5, 1.0]]), brightness=0.1, contrast=0.5)
    tensor([[0.6000, 0.8500]])
    """
    middle = (low + high) / 2
    return ((images - middle) * contrast + middle + brightness * (high - low)).clamp(low, high)
