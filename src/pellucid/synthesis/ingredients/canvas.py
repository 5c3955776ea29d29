"""What an image is while it is made: numbers that an optimizer changes, and how they become pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

Bounds = tuple[float, float] | None
Parameters = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Canvas:
    """N images as a function of parameters.

    parameters: tensors whose first axis is N; rows are independent images.
    draw: from the parameters to images N x C x H x W, differentiable.
    read: from images to parameters that draw them, as nearly as can be; None where there is no way back.
    bound: brings the parameters back, in place, into what is allowed; None where all is.
    """

    parameters: Parameters = field(repr=False)
    draw: Callable[[Parameters], Tensor] = field(repr=False)
    read: Callable[[Tensor], Parameters] | None = field(repr=False, default=None)
    bound: Callable[[Parameters], None] | None = field(repr=False, default=None)

    def images(self) -> Tensor:
        """The images as they are now, without a graph."""
        with torch.no_grad():
            return self.draw(self.parameters).detach().clone()


class Parametrization(Protocol):
    """How images are parametrized: `Pixels`, `Sigmoid`, `Fourier`, `FixedMagnitude`, `Generator`, `CPPN`."""

    def begin(self, like: Tensor, start: Tensor | None, seed: int) -> Canvas:
        """A canvas of images of the shape, type and device of `like`.

        Args:
            like: N x C x H x W; where `start` is None, the image about which noise is made.
            start: images to begin with, or None for the noise that suits the parametrization.
            seed: of the noise; row i depends on the seed and i alone.
        """
        ...


def noise(like: Tensor, shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal numbers, len(like) x shape, of the type and on the device of `like`.

    Row i depends on the seed and on i alone, so that a batch begins as its rows would alone.

    >>> a, b = noise(torch.empty(2), (3,), 0), noise(torch.empty(1), (3,), 0)
    >>> bool((a[:1] == b).all())
    True
    """
    rows = [torch.randn(shape, generator=stream(seed, row)) for row in range(len(like))]
    return torch.stack(rows).to(like)


def stream(seed: int, number: int) -> torch.Generator:
    """A stream of random numbers of its own for each seed and number."""
    mixed = (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + 1) % 2**64
    mixed = (mixed ^ (mixed >> 31)) * 0xBF58476D1CE4E5B9 % 2**64
    return torch.Generator().manual_seed((mixed ^ (mixed >> 29)) % 2**63)


def squash(values: Tensor, bounds: Bounds) -> Tensor:
    """A sigmoid onto the bounds; as it is where there are none."""
    if bounds is None:
        return values
    low, high = bounds
    return low + (high - low) * values.sigmoid()


def unsquash(images: Tensor, bounds: Bounds) -> Tensor:
    """What `squash` takes to the images; those beyond 1 % to 99 % of the bounds are moved there."""
    if bounds is None:
        return images
    low, high = bounds
    return ((images - low) / (high - low)).clamp(0.01, 0.99).logit()


def check_bounds(bounds: Bounds) -> None:
    if bounds is not None and not (len(bounds) == 2 and bounds[0] < bounds[1]):
        raise ValueError(f"bounds is {bounds!r}, expected (low, high) with low below high, or None")


def broadcast_rows(values: Tensor, like: Tensor) -> Tensor:
    """N numbers, shaped to meet N x ... ."""
    return values.view(-1, *[1] * (like.ndim - 1))
