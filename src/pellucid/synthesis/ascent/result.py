"""What every verb of this family returns: images, how they came about, and a film of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...display import figures
from ...files.images import to_pil, write_image
from ...methods.result import Call, Result
from .film import FILMS, write_film

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Synthesis(Result):
    """Images made by ascending an objective.

    images: N x C x H x W.
    values: N, the objective of each image as it is.
    history: N x T, the objective at each step, of what the network saw then.
    penalties: N x T x P, the value of each penalty at each step, in the order in which they were given.
    zero_gradient: N, True where the objective had no gradient at the start and none was found elsewhere, so that the
        image is noise, or lost it on the way and ended below where it began.
    error: N, what the method says of how near it came; None where it says nothing.
    frames: N x F x C x H x W, 8 bits, the images on the way, if they were kept.
    titles: what each image is of.
    steps: how many were made; fewer than asked for if it was interrupted. seed: of all that is random.
    interrupted: whether it was stopped by hand; the images are then the best so far.
    call: how it was made.
    """

    images: Tensor
    values: Tensor = field(repr=False, default_factory=lambda: torch.empty(0))
    history: Tensor = field(repr=False, default_factory=lambda: torch.empty(0, 0))
    penalties: Tensor = field(repr=False, default_factory=lambda: torch.empty(0, 0, 0))
    zero_gradient: Tensor = field(repr=False, default_factory=lambda: torch.empty(0, dtype=torch.bool))
    error: Tensor | None = field(repr=False, default=None)
    frames: Tensor | None = field(repr=False, default=None)
    titles: tuple[str, ...] = field(repr=False, default=())
    steps: int = 0
    seed: int = 0
    interrupted: bool = False
    call: Call | None = None

    def figure(self, *, history: bool = False, columns: int | None = None, **options: Any) -> Figure:
        """The images with what they are of and the value that they reached.

        Args:
            history: draw the objective over the steps instead.
            columns: images in a row; chosen by their number by default.
            options: those of `pellucid.display.figures.grid`: titles, notes, caption, inches.
        """
        options.setdefault("caption", self._caption())
        if history:
            return self._curves(options["caption"])
        shown = figures.displayable(self.images[: figures.MOST_IMAGES].cpu())
        if len(self.images) > len(shown):
            options["caption"] = f"the first {len(shown)} of {len(self.images)} images. {options['caption']}"
        options.setdefault("titles", self.titles)
        options.setdefault("notes", [self.note(row) for row in range(len(shown))])
        return figures.grid(list(shown), columns=columns or _columns(len(shown)), **options)

    def save(self, path: str | Path, *, plain: bool = False, **options: Any) -> Path:
        """Write the result, whole or not at all.

        Args:
            path: a picture (.png, .svg, .pdf), the numbers (.npz), or a film (.gif, .mp4) of the frames that were
                kept.
            plain: the images alone, pixel by pixel and side by side, without titles (.png, .jpg, .webp, .tif).
            options: those of `figure`, or of `film`.

        Raises:
            ValueError: for another ending, or a film where no frames were kept.
            OSError: if the file cannot be written.
        """
        path = Path(path)
        if plain:
            write_image(self.tiles(), path)
            return path
        if path.suffix.lower() in (".gif", ".mp4"):
            return self.film(path, **options)
        return super().save(path, **options)

    def tiles(self) -> Tensor:
        """All images in one, C x H x W in [0, 1], side by side in rows with a line of white between."""
        shown = figures.displayable(self.images.cpu())
        if self.images.shape[1] == 1:
            shown = shown[:, :1]
        return _tiled(shown)

    def film(self, path: str | Path, *, seconds: float = 5.0, hold: float = 1.0, scale: int = 1) -> Path:
        """Write the frames that were kept as a film.

        Args:
            path: .gif, .webp or .png (animated figures), or .mp4.
            seconds: how long it takes.
            hold: how long the last frame stays, in seconds.
            scale: each pixel becomes a square of so many.

        Raises:
            ValueError: if no frames were kept, or for another ending.
            ImportError: for .mp4 without imageio: pip install 'pellucid[film]'.
            OSError: if the file cannot be written.

        >>> import pellucid, tempfile
        >>> found = pellucid.maximize(pellucid.load("shapes"), "star", size=32, steps=6, film=2)
        >>> found.frames.shape  # before steps 0, 2 and 4, and at the end
        torch.Size([1, 4, 3, 32, 32])
        >>> found.film(tempfile.mkdtemp() + "/way.gif", seconds=1, scale=4).name
        'way.gif'
        """
        path = Path(path)
        if self.frames is None or not self.frames.shape[1]:
            raise ValueError(
                "no frames were kept for a film: ask for one with record_every=10, a frame every ten steps"
            )
        if path.suffix.lower() not in FILMS:
            raise ValueError(f"cannot write a film as {path.name!r}: expected {', '.join(FILMS)}")
        if seconds <= 0 or hold < 0 or scale < 1:
            raise ValueError(f"seconds, hold and scale are {seconds}, {hold} and {scale}, expected at least 0, 0 and 1")
        shown = [_tiled(frame) for frame in self.frames.float().div(255).unbind(1)]
        shown = [one.repeat_interleave(scale, 1).repeat_interleave(scale, 2) for one in shown]
        frames = [to_pil(one if len(one) in (1, 3) else one.mean(0, keepdim=True)) for one in shown]
        write_film(frames, path, seconds=seconds, hold=hold)
        return path

    def _caption(self) -> str:
        if self.call is None:
            return ""
        stopped = " (interrupted)" if self.interrupted else ""
        return f"{self.call.method}({self.call.model}), {self.steps} steps{stopped}, seed {self.seed}"

    def note(self, row: int) -> str:
        """What an image came to, in a few words."""
        said = f"{float(self.values[row]):.4g}" if len(self.values) > row else ""
        if len(self.zero_gradient) > row and bool(self.zero_gradient[row]):
            return f"{said}, no gradient" if said else "no gradient"
        if self.error is not None:
            said = f"error {float(self.error[row]):.3g}"
        return said

    def _curves(self, caption: str) -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 3.6), dpi=130, layout="constrained")
        axis = figure.subplots()
        for row, line in enumerate(self.history.detach().cpu().float()):
            label = self.titles[row] if row < len(self.titles) and len(self.history) <= 10 else None
            axis.plot(line.numpy(), lw=1, label=label)
        axis.set(xlabel="step", ylabel="objective")
        axis.spines[["top", "right"]].set_visible(False)
        if 0 < len(self.history) <= 10 and len(set(self.titles)) > 1:
            axis.legend(fontsize=7, frameon=False)
        figure.supxlabel(caption, fontsize=7, color="0.4", parse_math=False)
        return figure

    def __repr__(self) -> str:
        stopped = ", interrupted" if self.interrupted else ""
        return f"Synthesis({' x '.join(map(str, self.images.shape))}, {self.steps} steps{stopped}, {self.call})"


def _columns(count: int) -> int:
    return count if count <= 5 else min(8, ceil(count**0.5) + 1)


def _tiled(images: Tensor | Sequence[Tensor]) -> Tensor:
    count, channels, height, width = torch.as_tensor(images).shape
    columns = _columns(count)
    rows = -(-count // columns)
    if count == 1:
        return images[0]
    sheet = torch.ones(channels, rows * (height + 1) - 1, columns * (width + 1) - 1)
    for place, image in enumerate(images):
        y, x = place // columns * (height + 1), place % columns * (width + 1)
        sheet[:, y : y + height, x : x + width] = image
    return sheet
