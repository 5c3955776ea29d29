"""A network that reduces dimensions stage by stage, from principal components onwards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

WIDEST = 512  # of hidden layers, and of the first reduction


class Stage(nn.Module):
    """y = V' x + f(x), V the principal axes at the start and f a small network that is 0 then.

    wide, narrow: dimensions in and out.
    """

    def __init__(self, wide: int, narrow: int, generator: torch.Generator) -> None:
        super().__init__()
        hidden = min(wide, WIDEST)
        self.straight = _linear(wide, narrow, None)
        self.curved = nn.Sequential(
            _linear(wide, hidden, generator),
            nn.LeakyReLU(0.2),
            _linear(hidden, hidden, generator),
            nn.LeakyReLU(0.2),
            _linear(hidden, narrow, None),
        )

    def start(self, points: Tensor, origin: Tensor) -> None:
        """Begin as the principal axes, around an origin, of the points that come in."""
        axes = axes_of(points, origin)[:, : self.straight.out_features].T.to(points)
        with torch.no_grad():
            self.straight.weight.copy_(axes)
            self.straight.bias.copy_(-axes @ origin)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.straight(x) + self.curved(x)
        return out


class Stages(nn.Module):
    """Maps features to few dimensions, M x D to M x d, so that distances stay what they were.

    `forward` goes through all stages; `through` gives what comes out of each. By the cosine, features are taken at
    length 1, and around 0 instead of their mean, which angles depend on.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, points: Tensor, widths: Sequence[int], generator: torch.Generator, cosine: bool = False) -> None:
        super().__init__()
        self.cosine = cosine
        mean = points.mean(0)
        self.register_buffer("mean", torch.zeros_like(mean) if cosine else mean)
        # Of size 1, whatever the features: steps of the training then fit any of them.
        size = (points - mean).square().sum(1).mean().sqrt()
        self.register_buffer("scale", torch.ones_like(size) if cosine else size)
        pairs = zip([points.shape[1], *widths[:-1]], widths, strict=True)
        self.stages = nn.ModuleList(Stage(wide, narrow, generator) for wide, narrow in pairs)

    def scaled(self, features: Tensor) -> Tensor:
        """Features around 0 and of size 1, which the first stage takes."""
        if self.cosine:
            return _unit(features)
        moved: Tensor = (features - self.mean) / self.scale
        return moved

    def start(self, number: int, points: Tensor) -> None:
        """Begin a stage as the principal components of the points that come into it."""
        stage = self.stages[number]
        assert isinstance(stage, Stage)
        stage.start(points, torch.zeros_like(points[0]) if self.cosine else points.mean(0))

    def distances(self, points: Tensor) -> Tensor:
        """Between all pairs of points, in the order of `torch.pdist`: Euclidean, or 1 - cosine."""
        if not self.cosine:
            return torch.pdist(points)
        unit = _unit(points)
        above = torch.ones(len(unit), len(unit), dtype=torch.bool, device=unit.device).triu(1)
        found: Tensor = 1 - (unit @ unit.T)[above]
        return found

    def through(self, scaled: Tensor, last: int | None = None) -> list[Tensor]:
        """What comes out of each stage, up to `last`."""
        found: list[Tensor] = []
        for stage in self.stages[: None if last is None else last + 1]:
            scaled = stage(scaled)
            found.append(scaled)
        return found

    def forward(self, features: Tensor) -> Tensor:
        return self.through(self.scaled(features))[-1] * self.scale


def axes_of(points: Tensor, origin: Tensor) -> Tensor:
    """The principal axes of points around an origin, D x D in float64: a column each, of the most variance first."""
    centered = (points - origin).double()
    _, vectors = torch.linalg.eigh(centered.T @ centered)
    axes: Tensor = vectors.flip(1)
    return axes


def halving(wide: int, narrow: int) -> list[int]:
    """Dimensions of the stages: powers of two on the way, then the last.

    >>> halving(512, 10), halving(3, 2), halving(2048, 300)
    ([256, 128, 64, 32, 16, 10], [2], [512, 300])
    """
    width, found = 1, []
    while 2 * width < wide and 2 * width <= WIDEST:
        width *= 2
    while width > narrow:
        found.append(width)
        width //= 2
    return [*found, narrow]


def _unit(points: Tensor) -> Tensor:
    unit: Tensor = nn.functional.normalize(points)
    return unit


def _linear(wide: int, narrow: int, generator: torch.Generator | None) -> nn.Linear:
    """A linear layer of small random weights, or of zeros; the global random state stays as it was."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, wide, narrow)
    with torch.no_grad():
        nn.init.zeros_(layer.bias)
        if generator is None:
            nn.init.zeros_(layer.weight)
        else:
            nn.init.kaiming_normal_(layer.weight, a=0.2, nonlinearity="leaky_relu", generator=generator)
    return layer
