"""Which axis of a function's images is what, and images laid out as it takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

LAYOUTS = {"NHWC": (0, 3, 1, 2), "NCHW": (0, 1, 2, 3)}


def by_channels(shape: tuple[int, ...], wanted: str | None) -> tuple[int, ...]:
    """The axes of N, C, H, W as they were said, or as the number of colors tells.

    Raises:
        ValueError: if neither does.
    """
    if wanted is not None and wanted not in LAYOUTS:
        raise ValueError(f"layout is {wanted!r}, expected 'NHWC' or 'NCHW'")
    likely = [name for name, axes in LAYOUTS.items() if shape[axes[1]] in (1, 3, 4)]
    if wanted is None and len(likely) != 1:
        raise ValueError(
            f"nothing tells which axis of {' x '.join(map(str, shape))} has the colors: say layout='NHWC' or "
            "layout='NCHW'"
        )
    return LAYOUTS[wanted or likely[0]]


def to_source(images: Tensor, axes: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """N x C x H x W as the function takes it."""
    back = torch.tensor(axes).argsort().tolist()
    return np.ascontiguousarray(images.detach().cpu().permute(back).numpy().astype(dtype))
