"""Gradients in which each function has its slope between an image and a baseline."""

from __future__ import annotations

import torch
from torch import Tensor

from ...model.run import Model, gradient
from ...objectives import Bound
from ...rules import DEEPLIFT


def multipliers(
    model: Model, images: Tensor, baselines: Tensor, objective: Bound, rows: Tensor, strict: bool
) -> Tensor:
    """DeepLIFT's multipliers: what a pixel's difference from its baseline is multiplied with; as the images.

    Args:
        images, baselines: M x C x H x W each.
        rows: which of the caller's images each is.
        strict: as for `run.gradient`.
    """
    both = torch.cat([images, baselines])
    count = len(images)
    slopes, _ = gradient(
        model, both, objective, rows=torch.cat([rows, rows]), rules=DEEPLIFT, strict=strict, only=count
    )
    return slopes[:count]
