"""Features: what the layers of a network hold for many images, as a result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...checks import UnknownName, nearest
from ...display import figures
from ...files.tables import TABLES, write_table
from ...methods.result import Call, Result
from .export import with_vectors, write_arrays
from .stored_arrays import Stored, blocks_of, shape_of
from .sweep import Sweep
from .vectors import stored

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Features(Result):
    """Vectors of some layers for N images, in the order of the images.

    arrays: by layer, N x D numbers; of a run folder they are read when they are asked for.
    names: of the images, short. files: where they are, if they are files.
    labels: N, the true class as an index into `classes`; -1 where it is not known.
    predictions: N, the predicted class as an index into `classes`; -1 where the network predicts none.
    scores: N, the probability of the predicted class; NaN where there is none.
    classes: names of the classes: those of the model first, then others that only the folders or the table have.
    folder: the run folder, if there is one.
    failures: names of files that are left out, with the reason.
    images: N x C x H x W, if they were given as a tensor.
    look: an image by its number, as the model sees it, C x H x W.
    call: how it was made.
    """

    arrays: Mapping[str, Tensor]
    names: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    labels: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    predictions: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    scores: Tensor = field(default_factory=lambda: torch.empty(0))
    classes: tuple[str, ...] = ()
    folder: Path | None = None
    failures: tuple[tuple[str, str], ...] = ()
    images: Tensor | None = None
    look: Callable[[int], Tensor] | None = None
    call: Call | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that there are vectors of."""
        return tuple(self.arrays)

    @property
    def values(self) -> Tensor:
        """The vectors, N x D, where there is one layer; `features["layer3"].values` picks one of several.

        Raises:
            ValueError: if there are several layers.
        """
        return self.arrays[self._only()]

    @property
    def shape(self) -> tuple[int, ...]:
        """N and D, where there is one layer; nothing is read for it."""
        return shape_of(self.arrays, self._only())

    def blocks(self) -> Iterator[Tensor]:
        """The vectors in pieces of some rows, where there is one layer: they need not fit into the memory."""
        yield from blocks_of(self.arrays, self._only())

    def __getitem__(self, layer: str) -> Features:
        """The same images seen from one layer.

        Raises:
            UnknownName: if there are no vectors of it.
        """
        if layer not in self.arrays:
            raise UnknownName(f"there are no vectors of layer {layer!r}; {nearest(str(layer), self.arrays)}")
        chosen = self.arrays
        if isinstance(chosen, Stored):
            return replace(self, arrays=chosen.only(layer))
        return replace(self, arrays={layer: chosen[layer]})

    def __len__(self) -> int:
        return len(self.names)

    def label(self, number: int) -> str:
        """The true class of an image in words; nothing where it is not known."""
        index = int(self.labels[number])
        return self.classes[index] if index >= 0 else ""

    def prediction(self, number: int) -> str:
        """The predicted class of an image in words; nothing where there is none."""
        index = int(self.predictions[number])
        return self.classes[index] if index >= 0 else ""

    def thumbnails(self, numbers: Sequence[int]) -> list[Tensor]:
        """Some of the images as the model sees them, each 3 x H x W in [0, 1].

        Raises:
            ValueError: if they are not known, or a file cannot be read any more.
        """
        if self.look is None:
            raise ValueError("the images of these vectors are not known, only their numbers")
        return [figures.displayable(self.look(int(number))[None].cpu())[0] for number in numbers]

    def tensors(self) -> dict[str, Tensor]:
        """The vectors by layer, and labels, predictions and scores."""
        given = {"labels": self.labels, "predictions": self.predictions, "scores": self.scores}
        return {**{f"values.{layer}": self.arrays[layer] for layer in self.arrays}, **given}

    def rows(self) -> list[dict[str, Any]]:
        """A row for each image: file, name, true class, predicted class and its probability."""
        return [
            {
                "file": self.files[number] if self.files else "",
                "name": name,
                "label": self.label(number) or None,
                "prediction": self.prediction(number) or None,
                "score": None if bool(self.scores[number].isnan()) else float(self.scores[number]),
            }
            for number, name in enumerate(self.names)
        ]

    def figure(self, **options: Any) -> Figure:
        """The vectors as rows of colors, images in the order of their classes, and how alike they are.

        Args:
            options: most, how many images are drawn, evenly taken from all; 256 by default.
        """
        from .features_figure import overview

        return overview(self.arrays, self.labels, self.predictions, self.classes, **options)

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write the vectors, whole or not at all.

        Args:
            path: .npz or .h5 (needs h5py) for all numbers and names; .parquet or .csv for a row for each image; .png,
                .svg or .pdf for a picture.
            options: those of `figure`, for figures.

        Raises:
            ValueError: for another ending.
            ImportError: for .h5 without h5py.
            OSError: if the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() in TABLES:
            return write_table(path, with_vectors(self.rows(), self.arrays))
        if path.suffix.lower() in (".h5", ".hdf5", ".npz"):
            numbers = {"labels": self.labels, "predictions": self.predictions, "scores": self.scores}
            words = {"names": self.names, "files": self.files, "classes": self.classes}
            return write_arrays(path, self.arrays, numbers, words, self.call)
        return super().save(path, **options)

    def _only(self) -> str:
        if len(self.arrays) != 1:
            first = next(iter(self.arrays), "layer")
            raise ValueError(f"there are vectors of {len(self.arrays)} layers: pick one, as in features[{first!r}]")
        return next(iter(self.arrays))

    def __repr__(self) -> str:
        shapes = ", ".join(f"{layer}: {' x '.join(map(str, shape_of(self.arrays, layer)))}" for layer in self.arrays)
        left_out = f", {len(self.failures)} files left out" if self.failures else ""
        return f"Features({shapes}{left_out}, {self.call})"


def features_of(swept: Sweep, layers: Sequence[str], call: Call | None = None) -> Features:
    """The vectors of a sweep whose measures were `vectors` of these layers."""
    names = {stored("vectors", layer): layer for layer in layers}
    if missing := [layer for name, layer in names.items() if name not in swept.arrays]:
        raise UnknownName(f"the sweep has no vectors of {missing[0]!r}; {nearest(missing[0], swept.arrays)}")
    arrays = swept.arrays
    return Features(
        arrays=arrays.chosen(names) if isinstance(arrays, Stored) else {layer: arrays[n] for n, layer in names.items()},
        names=swept.names,
        files=swept.files,
        labels=swept.labels,
        predictions=swept.predictions,
        scores=swept.scores,
        classes=swept.classes,
        folder=swept.folder,
        failures=swept.failures,
        images=swept.images,
        look=swept.look,
        call=call,
    )
