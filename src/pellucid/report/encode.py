"""Pictures inside a page: photos and maps as data addresses, color bars as CSS."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING

import torch
from markupsafe import Markup
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..display.colors import color_range, colorize, enlarge
from ..display.figures import displayable, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TINY = 96  # up to this, pictures keep every pixel: 64 x 64 weigh 7 kB instead of 2
SMALL = 160  # below this, single pixels are shown as squares instead of being blurred


@dataclass(frozen=True)
class Picture:
    """A picture for an <img>: its address (which holds all of it), width and height in pixels."""

    address: Markup
    width: int
    height: int


@dataclass(frozen=True)
class Heatmap(Picture):
    """A map in colors. low, high: the values at the two ends of its colors; low is 0 or -high."""

    low: float
    high: float

    @property
    def signed(self) -> bool:
        return self.low < 0


def photo(image: Tensor, most: int) -> Picture:
    """An image as WebP.

    Args:
        image: C x H x W; pixels that are not in [0, 1] are shown on their own range.
        most: the longer side, in pixels; larger images are scaled down, smaller ones stay.

    >>> photo(torch.zeros(3, 40, 80), 20).height
    10
    """
    pixels = displayable(image.detach()[None].cpu())[0]
    height, width = fit(image.shape[1], image.shape[2], most)
    picture = Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).numpy())
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    # Of small images every pixel is seen, and they weigh little. What is lossy has colors at half the resolution.
    longer = max(width, height)
    how = {"lossless": True} if longer <= TINY else {"quality": 95 if longer <= SMALL else 85}
    return Picture(_address(picture, "webp", method=4, **how), width, height)


def drawing(figure: Figure) -> Picture:
    """A matplotlib figure as PNG."""
    with Image.open(BytesIO(png(figure))) as picture:
        return Picture(_address(picture.convert("RGB"), "png", optimize=True), *picture.size)


def heatmap(values: Tensor, height: int, width: int) -> Heatmap:
    """A map in the colors of `pellucid.display.colors`, as a PNG of 255 shades; zero has its exact color.

    Args:
        values: C x h x w; channels are summed.
        height, width: of the picture, in pixels.

    >>> heatmap(torch.tensor([[[-1.0, 0.5]]]), 2, 4).low
    -1.0
    """
    maps = values.detach().cpu().double().sum(0)[None, None]
    small = (min(height, maps.shape[2]), min(width, maps.shape[3]))
    maps = enlarge(F.adaptive_avg_pool2d(maps, small), (height, width))
    low, high = (bound.item() for bound in color_range(maps))
    shade = maps[0, 0] / high
    shade = ((shade.clamp(-1, 1) + 1) * 127 if low else shade.clamp(0, 1) * 254).round().byte()
    picture = Image.frombytes("P", (width, height), shade.numpy().tobytes())
    picture.putpalette(_palette(low < 0))
    return Heatmap(_address(picture, "png", optimize=True), width, height, low, high)


def gradient(signed: bool, stops: int = 17) -> Markup:
    """The colors from low to high as a CSS gradient.

    >>> gradient(True, 3)
    Markup('linear-gradient(90deg, #00004c, #ffffff, #800000)')
    """
    shades = [bytes(_palette(signed)[3 * i : 3 * i + 3]).hex() for i in torch.linspace(0, 254, stops).round().int()]
    return Markup("linear-gradient(90deg, {})").format(Markup(", ").join(f"#{shade}" for shade in shades))


def fit(height: int, width: int, most: int) -> tuple[int, int]:
    """Height and width scaled down so that the longer is at most `most`.

    >>> fit(100, 200, 50)
    (25, 50)
    """
    scale = min(1, most / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


@cache
def _palette(signed: bool) -> bytes:
    """255 shades, red green blue after one another; of a signed map the middle one is zero."""
    ramp = torch.linspace(-1 if signed else 0, 1, 255)
    if signed:
        ramp[127] = 0
    shades = colorize(ramp[None, None, None], signed=signed, percentile=100)[0, :, 0].T
    return (shades * 255).round().byte().numpy().tobytes()


def _address(picture: Image.Image, kind: str, **options: object) -> Markup:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return Markup(f"data:image/{kind};base64,{b64encode(buffer.getvalue()).decode()}")
