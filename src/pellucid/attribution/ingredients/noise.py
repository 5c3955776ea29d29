"""Noise that depends on the seed and the number of the draw alone: not on batch, type or device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def normal_noise(images: Tensor, seed: int) -> Callable[[Tensor], Tensor]:
    """Standard normal draws: from M draw numbers to M x C x H x W, like the images in type and device."""
    return _drawn(images, seed, torch.randn)


def uniform_noise(images: Tensor, seed: int) -> Callable[[Tensor], Tensor]:
    """Draws uniform on [0, 1): from M draw numbers to M x C x H x W, like the images in type and device."""
    return _drawn(images, seed, torch.rand)


def _drawn(images: Tensor, seed: int, draw: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
    def at(numbers: Tensor) -> Tensor:
        return torch.stack([
            draw(images.shape[1:], generator=torch.Generator().manual_seed(mixed(seed, k))) for k in numbers.tolist()
        ]).to(images)  # fmt: skip

    return at


def mixed(seed: int, number: int) -> int:
    """A seed for one draw; neighboring seeds and numbers must not give related streams."""
    x = (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + 1) % 2**64
    x = (x ^ (x >> 31)) * 0xBF58476D1CE4E5B9 % 2**64
    return (x ^ (x >> 29)) % 2**63
