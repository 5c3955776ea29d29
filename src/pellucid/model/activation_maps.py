"""Activations as maps: convolutional ones as they are, token sequences of transformers as grids."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

MOST_PREFIX_TOKENS = 5  # class, distillation and register tokens come before those of the patches


def grid(shape: Sequence[int], image_size: Sequence[int]) -> tuple[str, int, int, int] | None:
    """How an activation lies over the image.

    Args:
        shape: of the output of a layer, first axis N.
        image_size: height and width of the images.

    Returns:
        The layout ("NCHW", "NHWC" or "NTC"), the height and width of the grid, and how many tokens come
        before those of the grid; None if the activation does not lie over the image.

    >>> grid((2, 197, 768), (224, 224))
    ('NTC', 14, 14, 1)
    >>> grid((2, 12, 197, 64), (224, 224)) is None
    True
    """
    height, width = image_size
    if len(shape) == 4:
        for layout, (h, w) in (("NCHW", shape[2:]), ("NHWC", shape[1:3])):
            if _same_aspect(h, w, height, width):
                return layout, h, w, 0
    elif len(shape) == 3:
        best = None
        for patch in range(1, min(height, width) + 1):
            h, w = height // patch, width // patch
            extra = shape[1] - h * w
            if 0 <= extra <= min(MOST_PREFIX_TOKENS, h * w // 4) and h * w > 1 and (best is None or extra < best[3]):
                best = ("NTC", h, w, extra)
        return best
    return None


def as_maps(activation: Tensor, image_size: Sequence[int]) -> Tensor | None:
    """An activation as N x C x h x w, or None if it does not lie over the image.

    Class tokens are left out; for channels-last networks the axes are moved.
    """
    found = grid(activation.shape, image_size)
    if found is None:
        return None
    layout, h, w, extra = found
    if layout == "NCHW":
        return activation
    if layout == "NHWC":
        return activation.movedim(3, 1)
    maps: Tensor = activation[:, extra:].movedim(2, 1).unflatten(2, (h, w))
    return maps


def _same_aspect(h: int, w: int, height: int, width: int) -> bool:
    """Whether h x w can be height x width seen with one stride; padding and rounding shift it by one or two."""
    if h > height + 2 or w > width + 2 or h < 1 or w < 1:
        return False
    return abs(w - width * h / height) <= 1.5 + 0.05 * w and abs(h - height * w / width) <= 1.5 + 0.05 * h
