"""A network that paints in a style in one pass, and several styles in one network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import UnknownName, check_images, nearest
from ..files.tensors import read_tensors, write_tensors
from ..model.batches import batched

Blend = int | str | Sequence[float]
WHAT = "a style network"
DARKEST = 0.05  # of a photo, where it is handed on to the output, and as much from white: there a sigmoid still moves


class Norm(nn.Module):
    """Instance normalization with a gain and a bias for each style: (x - mean) / std per image and channel."""

    def __init__(self, styles: int, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(styles, channels))
        self.bias = nn.Parameter(torch.zeros(styles, channels))

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        gain, bias = (shares @ self.gain)[:, :, None, None], (shares @ self.bias)[:, :, None, None]
        return F.instance_norm(x, eps=1e-5) * gain + bias


class Layer(nn.Module):
    """A convolution with mirrored borders, perhaps after an enlargement, and its normalization."""

    def __init__(self, styles: int, inputs: int, outputs: int, kernel: int, stride: int = 1, enlarge: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, bias=False)
        self.norm = Norm(styles, outputs)
        self.border, self.enlarge = kernel // 2, enlarge

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        if self.enlarge > 1:  # and a convolution, where a transposed one would leave a checkerboard
            x = F.interpolate(x, scale_factor=float(self.enlarge), mode="nearest")
        x = self.conv(F.pad(x, (self.border,) * 4, mode="reflect"))
        normed: Tensor = self.norm(x, shares)
        return normed


class Residual(nn.Module):
    """Two layers whose result is added to what came in."""

    def __init__(self, styles: int, width: int) -> None:
        super().__init__()
        self.first, self.second = Layer(styles, width, width, 3), Layer(styles, width, width, 3)

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        added: Tensor = x + self.second(self.first(x, shares).relu(), shares)
        return added


class StyleNetwork(nn.Module):
    """Paints images of any size in one of its styles, or between them, in one pass.

    Johnson, Alahi & Fei-Fei 2016 with instance normalization (Ulyanov, Vedaldi & Lempitsky 2016) whose gains and
    biases belong to the style (Dumoulin, Shlens & Kudlur 2017). Unlike theirs it adds what it paints to the photo,
    before the last sigmoid, and begins with nearly nothing to add: a short training then changes the photo, where it
    would else have to learn to draw one first. Made by `train_style`, or empty.

    Args:
        styles: the names of the styles.
        width: channels of the first layer; the inner ones have four times as many.
        blocks: residual blocks.
        channels: of the images.

    >>> network = StyleNetwork(["waves", "mosaic"], width=4, blocks=1)
    >>> network.paint(torch.rand(1, 3, 30, 41), "waves").shape
    torch.Size([1, 3, 30, 41])
    """

    def __init__(self, styles: Sequence[str], *, width: int = 16, blocks: int = 4, channels: int = 3) -> None:
        super().__init__()
        if not styles or len(set(styles)) != len(styles) or isinstance(styles, str):
            raise ValueError(f"styles is {styles!r}, expected a list of different names")
        if min(width, blocks, channels) < 1:
            raise ValueError(f"width, blocks and channels are {width}, {blocks} and {channels}, expected at least 1")
        self.styles = tuple(styles)
        self.width, self.blocks, self.channels = width, blocks, channels
        n = len(styles)
        self.layers = nn.ModuleList([
            Layer(n, channels, width, 9), Layer(n, width, 2 * width, 3, stride=2),
            Layer(n, 2 * width, 4 * width, 3, stride=2), *(Residual(n, 4 * width) for _ in range(blocks)),
            Layer(n, 4 * width, 2 * width, 3, enlarge=2), Layer(n, 2 * width, width, 3, enlarge=2),
        ])  # fmt: skip
        self.last = nn.Conv2d(width, channels, 9)
        with torch.no_grad():
            for parameter in self.last.parameters():
                parameter.mul_(0.1)

    def forward(self, images: Tensor, shares: Tensor) -> Tensor:
        """N x C x H x W in [0, 1] and N x S shares of the styles to N x C x H x W in [0, 1]."""
        height, width = images.shape[2:]
        photo = F.pad(images, (0, -width % 4, 0, -height % 4), mode="replicate")
        x = photo - 0.5
        for layer in self.layers:
            x = layer(x, shares)
            x = x if isinstance(layer, Residual) else x.relu()
        change = self.last(F.pad(x, (4,) * 4, mode="reflect"))
        painted: Tensor = (photo.clamp(DARKEST, 1 - DARKEST).logit() + change).sigmoid()
        return painted[:, :, :height, :width]

    def paint(self, images: Tensor, style: Blend = 0) -> Tensor:
        """Images in a style.

        Args:
            images: N x C x H x W in [0, 1], of any size from 20 pixels.
            style: its name or number, or a share for each style, which blends them.

        Returns:
            N x C x H x W in [0, 1].

        Raises:
            ValueError: for images that are too small or of other channels, or shares that do not fit the styles.
            UnknownName: for a style that does not exist.
        """
        check_images(images, channels=self.channels, pixels=True)
        if min(images.shape[2:]) < 20:
            raise ValueError(f"images are {tuple(images.shape[2:])}, expected at least 20 pixels each way")
        place = self.last.weight
        shares = self.shares(style).to(place)
        parts: list[Tensor] = []

        def step(part: slice) -> None:
            some = images[part].to(place)
            parts.append(self(some, shares.expand(len(some), -1)).to(images))

        with torch.no_grad():
            batched(step, len(images), like=images, label="paint", device=place.device)
        return torch.cat(parts)

    def shares(self, style: Blend) -> Tensor:
        """1 x S: the share of each style."""
        count = len(self.styles)
        if isinstance(style, str):
            if style not in self.styles:
                raise UnknownName(f"there is no style {style!r}; {nearest(style, self.styles)}")
            style = self.styles.index(style)
        if isinstance(style, int):
            if not 0 <= style < count:
                raise ValueError(f"style is {style}, expected 0 to {count - 1}")
            return F.one_hot(torch.tensor([style]), count).float()
        found = torch.tensor([list(style)], dtype=torch.float32)
        if found.shape[1] != count:
            raise ValueError(f"got {found.shape[1]} shares for {count} styles")
        if not found.isfinite().all():
            raise ValueError(f"the shares are {list(style)}, expected numbers")
        return found

    def with_styles(self, names: Sequence[str]) -> StyleNetwork:
        """The same network with more styles, which begin as the mean of those it has; nothing else is copied anew."""
        grown = StyleNetwork((*self.styles, *names), width=self.width, blocks=self.blocks, channels=self.channels)
        state = {}
        for name, value in self.state_dict().items():
            mean = value.mean(0, keepdim=True).expand(len(names), *value.shape[1:])
            state[name] = torch.cat([value, mean]) if ".norm." in name else value
        grown.load_state_dict(state)
        return grown.to(self.last.weight.device).eval()

    def save(self, path: str | Path) -> Path:
        """Write the network to a .safetensors file, whole or not at all.

        Raises:
            ValueError: for another ending.
        """
        return write_tensors(path, WHAT, self.state_dict(), self.about())

    def about(self) -> dict[str, Any]:
        """What `load` builds the network by."""
        return {"styles": list(self.styles), "width": self.width, "blocks": self.blocks, "channels": self.channels}

    @classmethod
    def load(cls, path: str | Path) -> StyleNetwork:
        """A network from a file that `save` wrote; no code in the file is run.

        Raises:
            ValueError: if the file is no style network.
            FileNotFoundError: if there is none.
        """
        tensors, about = read_tensors(path, WHAT)
        try:
            with torch.random.fork_rng(devices=[]):
                network = cls(about["styles"], width=about["width"], blocks=about["blocks"], channels=about["channels"])
            network.load_state_dict(tensors)
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"{path} is no style network: {' '.join(str(error).split())[:200]}") from error
        return network.eval()
