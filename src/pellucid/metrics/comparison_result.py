"""A comparison of methods, as one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..display.colors import colorize
from ..display.figures import displayable
from ..files.tables import TABLES, write_table
from ..methods.result import Call, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Name: what it says, and whether more of it is better.
MEASURES: dict[str, tuple[str, bool]] = {
    "deletion": ("area under the probability as relevant pixels are deleted", False),
    "insertion": ("area under the probability as relevant pixels are inserted", True),
    "infidelity": ("part of the effect of covering squares that the map misses, best scaled", False),
    "sensitivity": ("largest change of the map within 0.02 of each pixel, over its own length", False),
    "mass": ("share of the positive relevance inside the mask", True),
    "pointing": ("the most relevant pixel lies inside the mask", True),
}
SHOWN = 6  # images in a figure


@dataclass(frozen=True, eq=False)
class Comparison(Result):
    """What methods cost, and how true their maps are, over N images.

    methods: M names. scores: by measure, M x N numbers, NaN where a method failed.
    seconds, forward, backward: M x N, what the map of an image took; passes as images sent through the network.
    images: n x C x H x W, the first images. maps: M x n x H x W, theirs; NaN where a method failed.
    names: of the N images. problems: methods that failed on some images: how many, and the first reason.
    failures: files that could not be used, with the reason. call: how it was made.
    """

    methods: tuple[str, ...]
    scores: Mapping[str, Tensor] = field(repr=False)
    seconds: Tensor = field(repr=False)
    forward: Tensor = field(repr=False)
    backward: Tensor = field(repr=False)
    images: Tensor = field(repr=False)
    maps: Tensor = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    problems: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    failures: tuple[tuple[str, str], ...] = ()
    call: Call | None = None

    def mean(self, measure: str) -> Tensor:
        """The mean of a measure over the images: M numbers, NaN for a method that failed on all."""
        return self.scores[measure].nanmean(1)

    def best(self, measure: str) -> str:
        """The method that is best by one measure."""
        mean = self.mean(measure)
        worst = -torch.inf if MEASURES[measure][1] else torch.inf
        mean = torch.where(mean.isnan(), worst, mean)
        return self.methods[int(mean.argmax() if MEASURES[measure][1] else mean.argmin())]

    def cells(self) -> list[list[str]]:
        """The table: heads, then a row for each method, means over the images; a star marks the best."""
        rows = [["method", "ms an image", "forward", "backward", *self.scores]]
        for place, method in enumerate(self.methods):
            seconds = float(self.seconds[place].nanmean())
            row = [method, "" if seconds != seconds else f"{1000 * seconds:.3g}"]
            row += [_count(float(passes[place].nanmean())) for passes in (self.forward, self.backward)]
            for measure in self.scores:
                value = float(self.mean(measure)[place])
                star = " *" if len(self.methods) > 1 and self.best(measure) == method else ""
                row.append("failed" if value != value else f"{value:.3f}{star}")
            rows.append(row)
        return rows

    def table(self) -> str:
        """The table in Markdown."""
        head, *rows = self.cells()
        return "\n".join(["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)])

    def tensors(self) -> dict[str, Tensor]:
        """Scores by measure, costs, maps and images."""
        return {**dict(self.scores), "seconds": self.seconds, "forward": self.forward, "backward": self.backward,
                "maps": self.maps, "images": self.images}  # fmt: skip

    def tiles(self, number: int) -> list[tuple[str, Tensor]]:
        """One of the first images beside its maps, each with its method and its scores."""
        shown = [(self.names[number], displayable(self.images[number : number + 1].cpu())[0])]
        for place, method in enumerate(self.methods):
            map_ = self.maps[place, number]
            if bool(map_.isfinite().all()):
                said = ", ".join(f"{name} {float(values[place, number]):.2f}" for name, values in self.scores.items())
                shown.append((f"{method}: {said}", colorize(map_[None, None])[0]))
        return shown

    def figure(self, *, most: int = SHOWN) -> Figure:  # type: ignore[override]
        """The first images beside the maps of each method, and below each method what it scored on average.

        Args:
            most: images.
        """
        from matplotlib.figure import Figure

        from ..display.figures import plain

        count = min(most, len(self.images))
        columns = 1 + len(self.methods)
        figure = Figure(figsize=(1.9 * columns, 1.95 * count + 0.3 + 0.17 * len(self.scores)), dpi=130,
                        layout="constrained")  # fmt: skip
        axes = figure.subplots(count, columns, squeeze=False)
        for row in range(count):
            pictures = [displayable(self.images[row : row + 1].cpu())[0]]
            for map_ in self.maps[:, row]:
                good = bool(map_.isfinite().all())
                pictures.append(colorize(map_[None, None])[0] if good else torch.full((3, *map_.shape), 0.9))
            for axis, picture in zip(axes[row], pictures, strict=True):
                axis.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
        for axis, title in zip(axes[0], ["image", *self.methods], strict=True):
            axis.set_title(plain(title), fontsize=9, parse_math=False)
        head, *rows = self.cells()
        axes[-1][0].set_xlabel("\n".join(head[1:2] + head[4:]), fontsize=7, color="0.3")
        for axis, row_of in zip(axes[-1][1:], rows, strict=True):
            axis.set_xlabel("\n".join(row_of[1:2] + row_of[4:]), fontsize=7, color="0.3")
        return figure

    def rows(self) -> list[dict[str, Any]]:
        """A row for each image and method: costs and scores."""
        return [
            {"image": name, "method": method, "seconds": float(self.seconds[place, number]),
             "forward": float(self.forward[place, number]), "backward": float(self.backward[place, number]),
             **{measure: float(values[place, number]) for measure, values in self.scores.items()}}
            for number, name in enumerate(self.names) for place, method in enumerate(self.methods)
        ]  # fmt: skip

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write the result, whole or not at all.

        Args:
            path: a picture (.png, .svg, .pdf), all numbers (.npz), or a row for each image and method (.csv, .parquet).
            options: those of `figure`, for pictures.

        Raises:
            ValueError: for another ending.
            OSError: if the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in TABLES:
            return super().save(path, **options)
        return write_table(path, self.rows())

    def __repr__(self) -> str:
        return f"Comparison({len(self.names)} images)\n{self.table()}"


def _count(value: float) -> str:
    return "" if value != value else f"{value:.0f}" if abs(value - round(value)) < 0.05 else f"{value:.1f}"
