"""Figures: images, heatmaps beside or over them, and grids with titles."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from torch import Tensor

from .colors import color_range, colorize, enlarge, overlay, smooth, threshold

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_IMAGES = 64  # in one figure: more cannot be told apart on a page


def heatmaps(
    images: Tensor,
    values: Tensor,
    *,
    over: bool = False,
    colors: str | None = None,
    percentile: float = 99.5,
    smoothing: float = 0,
    keep: float | None = None,
    titles: Sequence[str] = (),
    caption: str = "",
    columns: int | None = None,
) -> Figure:
    """Images with their maps.

    Args:
        images: N x C x H x W; pixels that are not in [0, 1] are shown on their own range.
        values: N x C x h x w; channels are summed.
        over: lay the map over the image instead of beside it.
        colors: a matplotlib color map; by default blue-white-red for maps with negative values (white is
            zero), black to yellow for others.
        percentile: the colors end at this percentile of each map's magnitudes; 100 clips nothing.
        smoothing: Gaussian of that many pixels over the map.
        keep: show only the strongest part: 0.1 keeps the strongest tenth of the pixels.
        titles: one for each image.
        caption: a line below.
        columns: images in a row; chosen by their number by default.

    Returns:
        A matplotlib figure, not yet shown.

    >>> import torch
    >>> figure = heatmaps(torch.rand(2, 3, 8, 8), torch.randn(2, 1, 8, 8), titles=["one", "two"])
    """
    if len(images) > MOST_IMAGES:
        caption = f"the first {MOST_IMAGES} of {len(images)} images. {caption}"
    images, values = images[:MOST_IMAGES].detach().cpu(), values[:MOST_IMAGES].detach().cpu()
    shown = displayable(images)
    maps = enlarge(values.float().sum(1, keepdim=True), (images.shape[2], images.shape[3]))
    maps = smooth(maps, smoothing)
    signed = bool((maps < 0).any())
    if keep is not None:
        if not 0 < keep <= 1:
            raise ValueError(f"keep is {keep}, expected a share above 0 and up to 1")
        maps = threshold(maps, quantile=1 - keep)
    low, high = color_range(maps, signed=signed, percentile=percentile)
    ranges = [f"{a:.2g} to {b:.2g}" for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    names = list(titles) + [""] * (len(images) - len(titles))
    if over:
        pictures = list(overlay(shown, maps, signed=signed, percentile=percentile, colors=colors))
        return grid(pictures, names, ranges, caption=caption, columns=columns or min(4, len(pictures)))
    colored = colorize(maps, signed=signed, percentile=percentile, colors=colors)
    pictures = [picture for pair in zip(shown, colored, strict=True) for picture in pair]
    pairs = columns or (1 if len(images) < 4 else 2)
    return grid(
        pictures, [t for name in names for t in (name, "")], [t for text in ranges for t in ("", text)],
        caption=caption, columns=2 * pairs,
    )  # fmt: skip


def grid(
    pictures: Sequence[Tensor],
    titles: Sequence[str] = (),
    notes: Sequence[str] = (),
    *,
    columns: int = 4,
    caption: str = "",
    inches: float = 2.4,
) -> Figure:
    """Pictures in rows, each with a title above and a note below.

    Args:
        pictures: each 3 x H x W or 1 x H x W in [0, 1].
        titles, notes: as many as pictures, or fewer.
        columns: pictures in a row.
        caption: a line below all.
        inches: the width of one picture.

    >>> import torch
    >>> figure = grid([torch.rand(3, 8, 8)] * 3, ["a", "b", "c"], columns=3)
    """
    import textwrap

    from matplotlib.figure import Figure

    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    aspect = max(p.shape[1] / p.shape[2] for p in pictures)
    room = 0.2 * bool(any(titles[columns:]) or any(notes[columns:])) + 0.2 * any(notes)
    size = (inches * columns, (inches * aspect + room) * rows + 0.4)
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for place, axis in enumerate(axes.flat):
        if place >= len(pictures):
            axis.set_axis_off()
            continue
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        picture = pictures[place].detach().cpu().float().clamp(0, 1)
        axis.imshow(picture.expand(3, -1, -1).permute(1, 2, 0).numpy(), interpolation="nearest")
        if place < len(titles) and titles[place]:
            axis.set_title("\n".join(textwrap.wrap(plain(titles[place]), 30)[:2]), fontsize=9, parse_math=False)
        if place < len(notes) and notes[place]:
            axis.set_xlabel(plain(notes[place]), fontsize=7, color="0.4", labelpad=2, parse_math=False)
    if caption:
        text = "\n".join(textwrap.wrap(plain(caption), int(16 * inches * columns)))
        figure.supxlabel(text, fontsize=7, color="0.4", parse_math=False)
    return figure


def bars(images: Tensor, values: Tensor, *, titles: Sequence[str] = (), caption: str = "", most: int = 20) -> Figure:
    """Images beside the strongest of their numbers, for layers that are no pictures.

    Args:
        images: N x C x H x W.
        values: N x K for neurons, N x T x D for tokens, whose numbers are summed over D.
        titles: one for each image.
        caption: a line below.
        most: numbers of each image that are shown, the strongest first.

    >>> import torch
    >>> figure = bars(torch.rand(2, 3, 8, 8), torch.randn(2, 30))
    """
    from matplotlib.figure import Figure

    if len(images) > MOST_IMAGES:
        caption = f"the first {MOST_IMAGES} of {len(images)} images. {caption}"
    images, values = images[:MOST_IMAGES].detach().cpu(), values[:MOST_IMAGES].detach().cpu().float()
    numbers = values.flatten(2).sum(2) if values.ndim > 2 else values
    figure = Figure(figsize=(7.2, 2.4 * len(images) + 0.4), dpi=130, layout="constrained")
    axes = figure.subplots(len(images), 2, squeeze=False, width_ratios=[1, 2])
    for place, (shown, row) in enumerate(zip(displayable(images), numbers, strict=True)):
        left, right = axes[place]
        left.imshow(shown.permute(1, 2, 0).numpy(), interpolation="nearest")
        left.set_axis_off()
        if place < len(titles):
            left.set_title(plain(titles[place]), fontsize=9, parse_math=False)
        order = row.abs().argsort(descending=True)[:most].tolist()
        colors = ["tab:blue" if row[index] < 0 else "tab:red" for index in order]
        right.bar([str(index) for index in order], row[order].numpy(), color=colors)
        right.axhline(0, color="0.4", linewidth=0.6)
        right.tick_params(labelsize=6)
        right.set_xlabel("token" if values.ndim > 2 else "neuron", fontsize=7)
    if caption:
        figure.supxlabel(plain(caption), fontsize=7, color="0.4", parse_math=False, wrap=True)
    return figure


def displayable(images: Tensor) -> Tensor:
    """Images as N x 3 x H x W in [0, 1]: other ranges are stretched, channels other than 1 or 3 are averaged."""
    images = images.detach().float()
    if images.shape[1] not in (1, 3):
        images = images.mean(1, keepdim=True)
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    if low.min() < -0.001 or high.max() > 1.001:
        images = (images - low) / (high - low).clamp(min=1e-12)
    return images.clamp(0, 1).expand(-1, 3, -1, -1)


def display(figure: Figure) -> Figure | None:
    """Put a figure before the user: in a notebook below the cell, in a window where there is a screen."""
    shell = sys.modules.get("IPython")
    if shell is not None and getattr(shell.get_ipython(), "kernel", None) is not None:
        # As a picture, since a notebook draws figures only once pyplot is set up; and now, in the middle of a cell too.
        shell.display.display(shell.display.Image(png(figure)))
        return None  # which the notebook does not draw again
    from matplotlib import get_backend, pyplot
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.registry import BackendFilter, backend_registry

    if get_backend().lower() in backend_registry.list_builtin(BackendFilter.INTERACTIVE):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        window = pyplot.figure(figsize=figure.get_size_inches(), dpi=figure.dpi)
        window.figimage(canvas.buffer_rgba())
        pyplot.show()
    return figure


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


def plain(text: str) -> str:
    """Text for a figure: control characters, which fonts lack, become spaces."""
    return "".join(c if c.isprintable() else " " for c in text)
