"""What every embedding returns: a place for each point, and pictures of them with their classes and images."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...display.figures import displayable, plain
from ...files.tables import TABLES, write_table
from ...methods.result import Call, Result
from ...model.batches import progress
from ..sweeps.features_result import Features
from .points import UNKNOWN, Array, Points, numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#333333")
"""Of Okabe & Ito, told apart with any eyes; without yellow, which white swallows."""
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
GREY = "#b5b5b5"
LISTED = 28  # classes in the legend of a figure
SHOWN = 150  # images in a figure


@dataclass(frozen=True, eq=False)
class Embedding(Result):
    """Places of N points in d dimensions.

    values: N x d. labels: N classes, or none. names: N texts, or none. files: N images' files, or none.
    predicted: whether the labels are what a network predicts. look: the image of a point by its number, C x H x W.
    variance: d, the share of the variance along each axis, for pca.
    mapping: places others among them, where the method can: from an array N x D to N x d.
    interrupted: how far it went, where it was stopped by hand: "after 120 of 750 steps". It is then the map so far.
    call: how it was made.
    """

    values: Tensor
    labels: tuple[str, ...] = field(repr=False, default=())
    names: tuple[str, ...] = field(repr=False, default=())
    files: tuple[str, ...] = field(repr=False, default=())
    predicted: bool = field(repr=False, default=False)
    look: Callable[[int], Tensor] | None = field(repr=False, default=None)
    variance: Tensor | None = field(repr=False, default=None)
    mapping: Callable[[Array], Array] | None = field(repr=False, default=None)
    interrupted: str = field(repr=False, default="")
    call: Call | None = None

    def place(self, features: Features | Tensor | Array) -> Tensor:
        """Where other points lie among these, M x d.

        Args:
            features: of the same layer of the same network, M x D.

        Raises:
            ValueError: if the method cannot place others, or they have another number of dimensions, or NaN.
        """
        if self.mapping is None:
            name = self.call.method if self.call else "this embedding"
            raise ValueError(f"{name} cannot place points that it has not seen: embed all of them together")
        found = numbers(features.values if isinstance(features, Features) else features)
        return torch.from_numpy(np.ascontiguousarray(self.mapping(found)))

    @property
    def classes(self) -> tuple[str, ...]:
        """The different labels, in order."""
        return ordered(self.labels)

    def thumbnails(self, size: int = 48, rows: Sequence[int] | None = None) -> Tensor | None:
        """Small pictures of the points, M x 3 x size x size, 8 bits; None where no images are known.

        Args:
            size: height and width in pixels; images are cropped to squares. rows: of which points; all by default.
        """
        if self.look is None:
            return None
        chosen = range(len(self.values)) if rows is None else rows
        found = torch.zeros(len(chosen), 3, size, size, dtype=torch.uint8)
        with progress(len(chosen), "thumbnails") as advance:
            for place, row in enumerate(chosen):
                found[place] = self._thumbnail(row, size)
                advance(1)
        return found

    def _thumbnail(self, row: int, size: int) -> Tensor:
        assert self.look is not None
        try:
            image = displayable(self.look(row)[None].cpu())
        except (ValueError, OSError):  # its file has gone since: the point stays
            return torch.full((3, size, size), 200, dtype=torch.uint8)
        height, width = image.shape[2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = image[:, :, top : top + side, left : left + side]
        how: dict[str, Any] = {"mode": "nearest"}
        if side > size:
            how = {"mode": "bilinear", "antialias": True, "align_corners": False}
        small = torch.nn.functional.interpolate(square, (size, size), **how)
        return (small[0].clamp(0, 1) * 255).round().byte()

    def figure(
        self,
        *,
        thumbnails: bool | None = None,
        axes: tuple[int, int] = (0, 1),
        size: float | None = None,
        inches: float = 6.4,
        **options: Any,
    ) -> Figure:
        """The points as a map, colored by class, with some of their images where these are known.

        Classes have seven colors that are told apart with any eyes, and seven markers where there are more of them.

        Args:
            thumbnails: draw images, as many as fit without overlap; by default where they are known.
            axes: which two of the dimensions.
            size: of a marker, in points; by their number by default.
            inches: width of the map.
            options: of the markers, as for matplotlib's `scatter`: alpha, linewidths, ...
        """
        from matplotlib.figure import Figure

        places = self.plane(axes)
        figure = Figure(figsize=(inches + (1.6 if self.labels else 0), inches * 0.9), dpi=130, layout="constrained")
        axis = figure.subplots()
        axis.set_aspect("equal", adjustable="datalim")
        size = size or float(np.clip(400 / math.sqrt(len(places)), 4, 40))
        for name, color, marker, rows in self.groups():
            how = {"c": color, "marker": marker, "linewidths": 0, "alpha": 0.85, "label": plain(name), **options}
            axis.scatter(places[rows, 0], places[rows, 1], s=size, **how)
        if self.labels:
            classes = len(set(self.labels))
            handles, names = axis.get_legend_handles_labels()
            said = ["predicted"] if self.predicted else []
            said += [f"{LISTED} of {classes} classes"] if classes > LISTED else []
            figure.legend(
                handles[:LISTED], [name if len(name) < 26 else f"{name[:24]}..." for name in names[:LISTED]],
                loc="outside right upper", frameon=False, fontsize=8, title=", ".join(said) or None, title_fontsize=8,
                markerscale=math.sqrt(40 / size),
            )  # fmt: skip
        axis.set(xticks=[], yticks=[], xlabel=self._axis_name(axes[0]))
        axis.set_ylabel(self._axis_name(axes[1]) if self.values.shape[1] > 1 else "")
        axis.spines[:].set_color("0.85")
        if thumbnails or (thumbnails is None and self.look is not None):
            self._draw_images(axis, places)
        if self.call:
            stopped = f"stopped {self.interrupted}. " if self.interrupted else ""
            figure.supxlabel(plain(f"{stopped}{self.call}"), fontsize=7, color="0.4", parse_math=False, wrap=True)
        return figure

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write the embedding, whole or not at all.

        Args:
            path: a picture (.png, .svg, .pdf), the numbers (.npz), or a table of them with names and labels (.csv,
                .parquet).
            options: those of `figure`, for pictures.

        Raises:
            ValueError: for another ending.
            OSError: if the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() in TABLES:
            columns = self.columns()
            rows = zip(*columns.values(), strict=True)
            return write_table(path, [dict(zip(columns, row, strict=True)) for row in rows])
        return super().save(path, **options)

    def columns(self) -> dict[str, list[Any]]:
        """A table of the points: name, file, label or predicted class, and their places as x, y, z or x1, x2, ..."""
        dimensions = self.values.shape[1]
        heads = ["x", "y", "z"][:dimensions] if dimensions < 4 else [f"x{i + 1}" for i in range(dimensions)]
        known = {name: list(value) for name, value in self._texts().items() if value}
        return {**known, **dict(zip(heads, self.values.T.tolist(), strict=True))}

    def _texts(self) -> dict[str, tuple[str, ...]]:
        return {"name": self.names, "file": self.files, "predicted" if self.predicted else "label": self.labels}

    def groups(self) -> list[tuple[str, str, str, Array]]:
        """Classes with their color, marker and points, in order; one without a name where nothing is known."""
        if not self.labels:
            return [("", COLORS[0], MARKERS[0], np.arange(len(self.values)))]
        labels, groups = np.array(self.labels, dtype=object), []
        known = [name for name in self.classes if name != UNKNOWN]
        for number, name in enumerate(known):
            # A color has been through all markers before classes share both.
            color, marker = number % len(COLORS), number // len(COLORS) % len(MARKERS)
            groups.append((name, COLORS[color], MARKERS[marker], np.flatnonzero(labels == name)))
        if len(known) < len(self.classes):
            groups.append((UNKNOWN, GREY, MARKERS[0], np.flatnonzero(labels == UNKNOWN)))
        return groups

    def plane(self, axes: tuple[int, int]) -> Array:
        """Two of the dimensions, N x 2; of one dimension, the points in a line with some height to tell them apart."""
        dimensions = self.values.shape[1]
        if dimensions == 1:
            height = np.random.default_rng(0).uniform(-0.05, 0.05, len(self.values))
            line = self.values[:, 0].numpy().astype(np.float64)
            return np.stack([line, height * np.ptp(line)], 1)
        for one in axes:
            if not 0 <= one < dimensions:
                raise ValueError(f"axes is {axes}, and there are dimensions 0 to {dimensions - 1}")
        return self.values[:, list(axes)].numpy().astype(np.float64)

    def _axis_name(self, axis: int) -> str:
        if self.variance is None:
            return "" if self.values.shape[1] < 3 else f"dimension {axis + 1}"
        return f"component {axis + 1}, {float(self.variance[axis]):.1%} of the variance"

    def _draw_images(self, axis: Any, places: Array) -> None:
        """Images of points that lie apart from those drawn before."""
        from matplotlib.offsetbox import AnnotationBbox, OffsetImage

        spread = np.ptp(places, 0).max() or 1.0
        chosen: list[int] = []
        for row in np.random.default_rng(0).permutation(len(places)):
            near = places[chosen] - places[row]
            if len(chosen) < SHOWN and (not chosen or (np.abs(near).max(1) > 0.052 * spread).all()):
                chosen.append(int(row))
        colors = {row: color for _, color, _, rows in self.groups() for row in rows} if self.labels else {}
        small = self.thumbnails(40, chosen)
        if small is None:
            raise ValueError("there are no images to draw: leave thumbnails out")
        for row, picture in zip(chosen, small, strict=True):
            box = OffsetImage(picture.permute(1, 2, 0).numpy(), zoom=0.42)
            frame = {"edgecolor": colors.get(row, "0.6"), "linewidth": 1.4}
            axis.add_artist(AnnotationBbox(box, places[row], pad=0.06, frameon=True, bboxprops=frame))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({' x '.join(map(str, self.values.shape))}, {self.call})"


def embedding_of(given: Points, values: Array, **more: Any) -> Embedding:
    """An embedding of points, with what is known of them."""
    found = torch.from_numpy(np.ascontiguousarray(values))
    return Embedding(found, given.labels, given.names, given.files, given.predicted, given.look, **more)


def ordered(labels: Sequence[str]) -> tuple[str, ...]:
    """Different labels in order, numbers in them by value.

    >>> ordered(["b 10", "b 2", "a", "b 2", "3"])
    ('3', 'a', 'b 2', 'b 10')
    """

    def parts(label: str) -> list[tuple[bool, int, str]]:
        found = re.split(r"([0-9]+)", label)
        return [(not piece.isdecimal(), int(piece) if piece.isdecimal() else 0, piece) for piece in found if piece]

    return tuple(sorted(set(labels), key=parts))


def check_dimensions(dimensions: int, given: Points, method: str) -> None:
    """Refuse a number of dimensions that the points cannot fill."""
    most = min(len(given.values) - 1, given.values.shape[1])
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or dimensions < 1:
        raise ValueError(f"dimensions is {dimensions!r}, expected a whole number above 0, such as 2")
    if dimensions > most:
        count, wide = given.values.shape
        raise ValueError(
            f"{method} of {count} points of {wide} numbers has at most {most} dimensions, asked for {dimensions}"
        )
