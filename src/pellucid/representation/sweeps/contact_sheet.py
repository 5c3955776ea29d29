"""Many small pictures in one, side by side in rows, as filters and activations are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ...display.figures import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = 1100  # pixels of the longer side that a sheet is scaled up to


def sheet(tiles: Tensor, *, columns: int | None = None, scale: int = 0) -> Tensor:
    """Pictures of one size in one, with white lines between.

    Args:
        tiles: N x 1 x h x w or N x 3 x h x w, in [0, 1].
        columns: in a row; by default so that the sheet is about square.
        scale: each pixel becomes a square of so many; by default so that the sheet is about 1100 pixels.

    Returns:
        3 x H x W in [0, 1].

    >>> sheet(torch.zeros(5, 1, 2, 2), columns=3, scale=1).shape
    torch.Size([3, 5, 8])
    """
    count, _, height, width = tiles.shape
    columns = columns or columns_of(count, height, width)
    rows = ceil(count / columns)
    if not scale:
        scale = max(1, min(24, ABOUT // max(columns * (width + 1), rows * (height + 1))))
    line = max(1, scale // 3)
    tall, wide = height * scale + line, width * scale + line
    made = torch.ones(3, rows * tall - line, columns * wide - line)
    large = tiles.detach().float().cpu().clamp(0, 1).expand(-1, 3, -1, -1)
    large = large.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    for place, tile in enumerate(large):
        y, x = place // columns * tall, place % columns * wide
        made[:, y : y + height * scale, x : x + width * scale] = tile
    return made


def montage(pictures: Sequence[Tensor], *, cell: int = 112, columns: int | None = None) -> Tensor:
    """Pictures of several sizes in one, each as large as its cell allows: small ones by squares, large ones averaged.

    Args:
        pictures: each 3 x h x w in [0, 1]. cell: its side in pixels. columns: in a row; about square by default.

    Returns:
        3 x H x W in [0, 1].

    >>> montage([torch.zeros(3, 4, 4), torch.zeros(3, 9, 3)], cell=8, columns=2).shape
    torch.Size([3, 8, 18])
    """
    cells = torch.ones(len(pictures), 3, cell, cell)
    for tile, picture in zip(cells, pictures, strict=True):
        factor = cell / max(picture.shape[1:])
        height, width = (max(1, round(side * factor)) for side in picture.shape[1:])
        how = {"mode": "nearest"} if factor > 2 else {"mode": "bilinear", "antialias": True}
        resized = F.interpolate(picture[None].float(), (height, width), **how)[0].clamp(0, 1)
        top, left = (cell - height) // 2, (cell - width) // 2
        tile[:, top : top + height, left : left + width] = resized
    columns = columns or columns_of(len(pictures), 1, 1)
    rows = ceil(len(pictures) / columns)
    made = torch.ones(3, rows * (cell + 2) - 2, columns * (cell + 2) - 2)
    for place, tile in enumerate(cells):
        y, x = place // columns * (cell + 2), place % columns * (cell + 2)
        made[:, y : y + cell, x : x + cell] = tile
    return made


def columns_of(count: int, height: int, width: int) -> int:
    """How many pictures a row has, so that all together are about square."""
    wanted: int = ceil((count * height / width) ** 0.5)
    return max(1, min(count, wanted))


def sheet_figure(picture: Tensor, title: str, names: Sequence[str], *, one_per_row: bool = False) -> Figure:
    """A sheet with the number of the first tile beside each row.

    Args:
        picture: 3 x H x W. title: above. names: of the tiles in order, or of the rows.
        one_per_row: whether they are those of the rows.
    """
    from matplotlib.figure import Figure

    height, width = picture.shape[1:]
    inches = 7.5
    figure = Figure(figsize=(inches, inches * height / width + 0.5), dpi=150, layout="constrained")
    axis = figure.subplots()
    axis.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
    rows = len(names) if one_per_row else 0
    if one_per_row and rows <= 64:
        step = height / rows
        axis.set_yticks([step * (row + 0.5) for row in range(rows)], [plain(name) for name in names], fontsize=6)
    else:
        axis.set_yticks([])
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_title(plain(title), fontsize=8, parse_math=False, loc="left", wrap=True)
    return figure
