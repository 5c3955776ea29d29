"""A decoder: from a code of a few numbers to an image, for ascents that keep to images like those it has seen."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...files.tensors import read_tensors, write_tensors

WHAT = "a decoder"


class Decoder(nn.Module):
    """From codes to images: one linear layer to a few coarse maps, then convolutions between enlargements.

    Made by `train_generator`, or empty. Codes are those of a normal distribution of mean 0 and deviation 1, and are
    climbed as `maximize(..., parametrization=Generator(decoder))`.

    Args:
        length: numbers of a code.
        size: height and width of the images.
        channels: of the images.
        width: channels of the finest maps; the coarser ones have twice and four times as many.

    >>> Decoder(8, size=28, channels=1, width=4).eval()(torch.zeros(2, 8)).shape
    torch.Size([2, 1, 28, 28])
    """

    def __init__(self, length: int = 64, *, size: int = 64, channels: int = 3, width: int = 24) -> None:
        super().__init__()
        if min(length, channels, width) < 1 or size < 8:
            raise ValueError(
                f"length, channels, width and size are {length}, {channels}, {width} and {size}, expected at least 1, "
                "1, 1 and 8"
            )
        self.length, self.size, self.channels, self.width = length, size, channels, width
        side, widths = channel_widths(size, width)
        self.first = nn.Linear(length, widths[0] * side * side)
        self.coarse = nn.Unflatten(1, (widths[0], side, side))
        steps: list[nn.Module] = [_block(widths[0], widths[0])]
        for before, after in pairwise(widths):
            steps += [nn.Upsample(scale_factor=2), _block(before, after)]
        self.steps = nn.Sequential(*steps)
        self.last = nn.Conv2d(widths[-1], channels, 3, padding=1)

    @property
    def code(self) -> tuple[int, ...]:
        """The shape of one code."""
        return (self.length,)

    def forward(self, codes: Tensor) -> Tensor:
        """N x length to N x C x size x size in [0, 1]."""
        drawn: Tensor = self.last(self.steps(self.coarse(self.first(codes)))).sigmoid()
        return drawn[:, :, : self.size, : self.size]

    def about(self) -> dict[str, Any]:
        """What `load` builds the decoder by."""
        return {"length": self.length, "size": self.size, "channels": self.channels, "width": self.width}

    def save(self, path: str | Path) -> Path:
        """Write the decoder to a .safetensors file, whole or not at all.

        Raises:
            ValueError: for another ending.
        """
        return write_tensors(path, WHAT, self.state_dict(), self.about())

    @classmethod
    def load(cls, path: str | Path) -> Decoder:
        """A decoder from a file that `save` wrote; no code in the file is run.

        Raises:
            ValueError: if the file is no decoder.
            FileNotFoundError: if there is none.
        """
        tensors, about = read_tensors(path, WHAT)
        try:
            with torch.random.fork_rng(devices=[]):
                known = {key: about[key] for key in ("size", "channels", "width")}
                decoder = cls(about["length"], **known)
            decoder.load_state_dict(tensors)
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"{path} is no decoder: {' '.join(str(error).split())[:200]}") from error
        return decoder.eval()


def random_images(net: nn.Module, count: int, seed: int = 0) -> Tensor:
    """What a decoder with a `code` draws of random codes, distributed as in its training; on the CPU.

    >>> random_images(Decoder(4, size=8, width=2).eval(), 3).shape
    torch.Size([3, 3, 8, 8])
    """
    place = next(net.parameters())
    codes = torch.randn(count, *net.code, generator=torch.Generator().manual_seed(seed))  # type: ignore[misc]
    parts: list[Tensor] = []
    with torch.no_grad():
        for part in codes.to(place).split(64):
            parts.append(net(part).float().cpu())
    return torch.cat(parts)


class Encoder(nn.Module):
    """The mirror of a decoder, by which it is trained: from images to the means and log variances of their codes."""

    def __init__(self, length: int, *, size: int, channels: int, width: int) -> None:
        super().__init__()
        side, widths = channel_widths(size, width)
        self.margin = side * 2 ** (len(widths) - 1) - size
        up = widths[::-1]
        steps: list[nn.Module] = [_block(channels, up[0])]
        for before, after in pairwise(up):
            steps += [_block(before, after, stride=2)]
        self.steps = nn.Sequential(*steps, nn.Flatten(), nn.Linear(up[-1] * side * side, 2 * length))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        padded = nn.functional.pad(images - 0.5, (0, self.margin, 0, self.margin), mode="replicate")
        mean, spread = self.steps(padded).chunk(2, 1)
        return mean, spread


def channel_widths(size: int, width: int) -> tuple[int, list[int]]:
    """The side of the coarsest maps, 4 to 7, and the channels of all, coarse to fine, each twice the size of the last.

    >>> channel_widths(28, 8), channel_widths(96, 8)
    ((7, [32, 16, 8]), (6, [32, 32, 32, 16, 8]))
    """
    halvings = 0
    while size / 2 ** (halvings + 1) >= 4:
        halvings += 1
    return -(-size // 2**halvings), [width * min(4, 2**k) for k in range(halvings, -1, -1)]


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    groups = next(n for n in (8, 4, 2, 1) if outputs % n == 0)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.GroupNorm(groups, outputs), nn.SiLU()
    )  # fmt: skip
