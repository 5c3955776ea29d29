"""A decoder of shapes: from a code of 21 numbers to a picture of a shape, for ascents that keep to shapes."""

from __future__ import annotations

from importlib.resources import files

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .outlines import REACH

OUTLINE, PLACE, COLORS = 12, 3, 6  # how the numbers of a code are shared
GRID = 24  # the outline is drawn by its distances on so many places each way
EXTENT = REACH * 1.15  # which reach so far from the middle, in units of the square root of the shape's area


class ShapesGenerator(nn.Module):
    """Pictures of one shape in one color on a ground of another.

    The first 12 numbers of a code are the outline and how it is turned: three linear layers, trained as the decoder of
    a variational autoencoder, give the signed distance to it on a grid. Two numbers are the place, one is the size, and
    six are the colors of the shape and of the ground, distributed together as in scenes. Codes are those of a normal
    distribution of mean 0 and deviation 1. The weights are random; `generator()` returns the decoder that has learned.

    Args:
        size: height and width of what it draws, in pixels.

    Example:
        >>> import torch
        >>> ShapesGenerator().eval()(torch.zeros(2, 21)).shape
        torch.Size([2, 3, 96, 96])
    """

    code = (OUTLINE + PLACE + COLORS,)
    color: Tensor
    colors: Tensor

    def __init__(self, size: int = 96) -> None:
        super().__init__()
        self.size = size
        self.outline = nn.Sequential(
            nn.Linear(OUTLINE, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, GRID * GRID)
        )
        self.register_buffer("color", torch.zeros(COLORS))  # their mean, as logits, and
        self.register_buffer("colors", torch.eye(COLORS))  # the root of their covariance

    def distances(self, outlines: Tensor) -> Tensor:
        """N x 12 to N x 1 x 24 x 24: signed distances, below 0 inside, in units of the square root of the area."""
        drawn: Tensor = self.outline(outlines).view(-1, 1, GRID, GRID)
        return drawn

    def forward(self, codes: Tensor) -> Tensor:
        outlines, place, colors = codes.split([OUTLINE, PLACE, COLORS], 1)
        distances = self.distances(outlines)
        # As `scenes` has them: the square root of the area is 0.27 to 0.42 of the side, and all of it lies inside.
        scale = 0.27 + 0.15 * _uniform(place[:, 2])
        room = (0.5 - REACH * scale).clamp(min=0)
        center = (2 * _uniform(place[:, :2]) - 1) * room[:, None]
        line = (torch.arange(self.size).to(codes) + 0.5) / self.size - 0.5
        x = (line[None, None, :] - center[:, 0, None, None]) / scale[:, None, None]
        y = (line[None, :, None] - center[:, 1, None, None]) / scale[:, None, None]
        grid = torch.stack(torch.broadcast_tensors(x, y), 3) / EXTENT
        far = F.grid_sample(distances, grid, mode="bicubic", padding_mode="border", align_corners=False)
        covered = (-3 * self.size * scale[:, None, None, None] * far).sigmoid()  # the edge is a pixel wide
        shape, ground = (self.color + colors @ self.colors.T).sigmoid()[:, :, None, None].split(3, 1)
        drawn: Tensor = ground + (shape - ground) * covered
        return drawn


def _uniform(normal: Tensor) -> Tensor:
    """From numbers of a standard normal distribution to the uniform one on [0, 1]."""
    shares: Tensor = torch.special.ndtr(normal)
    return shares


def generator(size: int = 96) -> ShapesGenerator:
    """A `ShapesGenerator` with the weights that ship with the package, in evaluation mode.

    Args:
        size: height and width of what it draws, in pixels, from 32.

    Example:
        >>> import torch
        >>> from pellucid.shapes import CLASSES, MEAN, STD, trained_network
        >>> found = generator()(torch.randn(1, 21, generator=torch.Generator().manual_seed(0)))
        >>> found.shape, bool((found >= 0).all() and (found <= 1).all())
        (torch.Size([1, 3, 96, 96]), True)
    """
    import safetensors.torch

    if isinstance(size, bool) or not isinstance(size, int) or size < 32:
        raise ValueError(f"size is {size!r}, expected pixels, at least 32")
    with torch.random.fork_rng(devices=[]):  # the random start must not disturb the caller's random numbers
        network = ShapesGenerator(size)
    weights = safetensors.torch.load(files(__package__).joinpath("generator.safetensors").read_bytes())
    network.load_state_dict({name: value.float() for name, value in weights.items()})  # kept in half precision
    return network.eval()
