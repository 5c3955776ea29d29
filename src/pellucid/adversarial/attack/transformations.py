"""A picture as a camera would see it: the transformations that a change in the world has to survive."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...display.gaussian import gaussian_blur


@dataclass(frozen=True)
class Transformations:
    """How a camera may see a picture: each time a little different.

    Attacks that take `transformations=` raise the mean loss over some views, drawn anew at every step, so that what
    they find survives being printed, hung up and photographed (expectation over transformations: Athalye, Engstrom,
    Ilyas & Kwok 2018, Synthesizing robust adversarial examples).

    rotation: up to so many degrees either way. scale: from, to; 1 is as it is. shift: up to that share of the side.
    perspective: each corner moves by up to that share of the side.
    brightness, contrast: change by up to that share of the range of pixels.
    blur: Gaussian, of a standard deviation of up to so many pixels. noise: Gaussian, of that standard deviation.
    samples: views at every step.

    >>> import pellucid
    >>> scenes = pellucid.shapes.scenes(2)
    >>> seen = list(Transformations(rotation=30, samples=3).of(scenes.images, torch.Generator().manual_seed(0)))
    >>> len(seen), seen[0].shape
    (3, torch.Size([2, 3, 96, 96]))
    """

    rotation: float = 15.0
    scale: tuple[float, float] = (0.9, 1.1)
    shift: float = 0.05
    perspective: float = 0.05
    brightness: float = 0.1
    contrast: float = 0.1
    blur: float = 1.0
    noise: float = 0.02
    samples: int = 4

    def __post_init__(self) -> None:
        for name in ("rotation", "shift", "perspective", "brightness", "contrast", "blur", "noise"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} is {value!r}, expected 0 or more")
        if not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise ValueError(f"scale is {self.scale!r}, expected two numbers above 0, the smaller first")
        if self.perspective >= 0.5:
            raise ValueError(f"perspective is {self.perspective:g}: from 0.5 on, corners meet")
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}, expected 1 or more")

    def of(self, images: Tensor, source: torch.Generator, low: float = 0.0, high: float = 1.0) -> Iterator[Tensor]:
        """The images in each of `samples` views, differentiable; a view is the same for all of them.

        Args:
            images: N x C x H x W. source: of the draws, on the CPU. low, high: bounds of pixels.
        """
        for _ in range(self.samples):
            yield self._one(images, source, low, high)

    def _one(self, images: Tensor, source: torch.Generator, low: float, high: float) -> Tensor:
        draws = torch.rand(14, generator=source, dtype=torch.float64)
        either = (2 * draws - 1).tolist()
        scale = self.scale[0] * (self.scale[1] / self.scale[0]) ** float(draws[1])
        seen = images
        if self.rotation or self.shift or self.perspective or self.scale != (1.0, 1.0):
            back = homography(2 * self.perspective * (2 * draws[6:14] - 1).view(4, 2))
            turn = math.radians(self.rotation) * either[0]
            places = _places(images, back, turn, scale, 2 * self.shift * either[2], 2 * self.shift * either[3])
            seen = F.grid_sample(
                seen, places.expand(len(seen), -1, -1, -1), mode="bilinear", padding_mode="reflection",
                align_corners=False,
            )  # fmt: skip
        if self.blur:
            seen = gaussian_blur(seen, self.blur * float(torch.rand((), generator=source, dtype=torch.float64)))
        seen = adjust_brightness(
            seen, brightness=self.brightness * either[4], contrast=1 + self.contrast * either[5], low=low, high=high
        )
        if self.noise:
            noise = torch.randn(images.shape[1:], generator=source, dtype=torch.float64).to(seen)
            seen = (seen + self.noise * (high - low) * noise).clamp(low, high)
        return seen


def homography(moves: Tensor) -> Tensor:
    """The 3 x 3 matrix, of places in [-1, 1], that takes each corner so far.

    To be multiplied with turns and shifts, so that a view samples pixels once: torchvision's `perspective` would sample
    them for itself, from corners at whole pixels, with black beyond the border.

    Args:
        moves: 4 x 2, of x and y, for the corners top left, top right, bottom right and bottom left.

    >>> homography(torch.zeros(4, 2)).diagonal()
    tensor([1., 1., 1.], dtype=torch.float64)
    """
    rows, wanted = [], []
    for (x, y), (dx, dy) in zip(((-1, -1), (1, -1), (1, 1), (-1, 1)), moves.double().tolist(), strict=True):
        u, v = x + dx, y + dy
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        wanted += [u, v]
    found = torch.linalg.solve(torch.tensor(rows, dtype=torch.float64), torch.tensor(wanted, dtype=torch.float64))
    return torch.cat([found, torch.ones(1, dtype=torch.float64)]).view(3, 3)


def _places(images: Tensor, warp: Tensor, turn: float, scale: float, x: float, y: float) -> Tensor:
    """Where in the picture each pixel of the view lies, 1 x H x W x 2 in [-1, 1]."""
    height, width = images.shape[2:]
    cos, sin, wide = math.cos(turn), math.sin(turn), width / height
    # From the view back to the picture; turned in pixels, where the sides may differ.
    similar = torch.tensor([
        [cos / scale, -sin / (scale * wide), -x], [sin * wide / scale, cos / scale, -y], [0, 0, 1],
    ], dtype=torch.float64)  # fmt: skip
    across, down = ((2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1 for n in (width, height))
    grid = torch.stack([*torch.meshgrid(down, across, indexing="ij")[::-1], torch.ones(height, width).double()], -1)
    at = grid @ (similar @ warp).T
    return (at[..., :2] / at[..., 2:])[None].to(images)


def warp_onto(
    size: tuple[int, int], patch: Tensor, *, scale: float, angle: float, y: float, x: float, round_: bool
) -> tuple[Tensor, Tensor]:
    """A patch in a picture: what it shows there, and where it covers.

    Args:
        size: height and width of the picture. patch: C x h x w.
        scale: the patch's side as a share of the picture's shorter side.
        angle: in radians, counter-clockwise. y, x: of its center, in [-1, 1] from the top left.
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


def adjust_brightness(
    images: Tensor, *, brightness: float, contrast: float, low: float = 0.0, high: float = 1.0
) -> Tensor:
    """Images in another light: contrast about the middle, then brightness added, clipped.

    >>> adjust_brightness(torch.tensor([[0.5, 1.0]]), brightness=0.1, contrast=0.5)
    tensor([[0.6000, 0.8500]])
    """
    middle = (low + high) / 2
    return ((images - middle) * contrast + middle + brightness * (high - low)).clamp(low, high)
